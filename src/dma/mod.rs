//! Guest memory as one device sees it.
//!
//! A device never touches RAM directly. It holds a [`Dma`] bound to its requester id, and every
//! access passes, in this order: the Bus Master Enable gate, the translator (an IOMMU, when there is
//! one), and RAM, page by page. A closed gate fails before translation, so an IOMMU records nothing.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod handle;
mod space;

pub use handle::{Dma, DmaError, DmaWatch, Gate, Iova, Lookup, Stray, Transfer, Translate};
pub use space::DmaSpace;
