//! Saved states on their way in and out.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::device::StateError;

/// A device's state as a value.
#[must_use]
pub fn save<T: Serialize>(state: &T) -> serde_json::Value {
    // Plain structs of numbers and bytes have no way to fail; null is refused by every load.
    serde_json::to_value(state).unwrap_or_default()
}

/// The shape of a saved state; its values are the device's to check.
///
/// # Errors
/// [`StateError::Shape`].
pub fn load<T: DeserializeOwned>(device: &str, state: &serde_json::Value) -> Result<T, StateError> {
    T::deserialize(state).map_err(|source| StateError::Shape {
        device: device.into(),
        source,
    })
}

/// Refuses a state whose `what` cannot be.
///
/// # Errors
/// [`StateError::Impossible`], unless `possible`.
pub fn check(device: &str, possible: bool, what: &str) -> Result<(), StateError> {
    if possible {
        return Ok(());
    }
    Err(StateError::Impossible {
        device: device.into(),
        what: what.into(),
    })
}
