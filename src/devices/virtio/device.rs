//! What a device has to say to be a virtio device.

use crate::bus::StateError;

use super::ring::{Ring, RingError};

/// What became of a queue's buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// There are none left that the device wants now.
    All,
    /// There may be more: the device stopped so that the vCPU which notified it can go on.
    More,
}

/// A virtio device behind [`super::VirtioPci`].
pub trait VirtioDevice: Send {
    /// Name for listings, traces and errors.
    fn label(&self) -> &'static str;

    /// Its virtio ID (VIRTIO 1.2, 5).
    fn id(&self) -> u16;

    /// How many queues it has.
    fn queues(&self) -> u16;

    /// Features of its kind that it offers; those of every device are the transport's.
    fn features(&self) -> u64;

    /// Its configuration structure; always of the same length.
    fn config(&self) -> Vec<u8>;

    /// The driver writes there; the range lies in the structure.
    fn write_config(&mut self, offset: usize, bytes: &[u8]);

    /// The driver is ready, having chosen these features; or it is gone.
    fn driver(&mut self, features: Option<u64>);

    /// Takes buffers of a queue. Called when the driver notified it, and while
    /// [`VirtioDevice::wants`] names it.
    ///
    /// # Errors
    /// [`RingError`], from the ring: the device then stands still until it is reset.
    fn serve(&mut self, queue: u16, ring: &mut Ring<'_>) -> Result<Served, RingError>;

    /// The driver broke the rules of rings, by this; the transport stands still until it is reset.
    fn broken(&mut self, error: &RingError);

    /// A queue it wants to be served though nobody notified it.
    fn wants(&self) -> Option<u16> {
        None
    }

    /// Back to the state after reset.
    fn reset(&mut self);

    /// The volatile state.
    fn save(&self) -> serde_json::Value;

    /// Puts a saved state back.
    ///
    /// # Errors
    /// [`StateError`]; the device is then unchanged.
    fn load(&mut self, state: &serde_json::Value) -> Result<(), StateError>;
}
