//! The list of capabilities (PCI 3.0, 6.7).

use crate::bus::Width;

use super::field::Field;
use super::msi::MsiShape;
use super::msix::MsixShape;

/// A capability a function offers.
#[derive(Debug, Clone)]
pub enum Capability {
    /// Message-signalled interrupts.
    Msi(MsiShape),
    /// Their extended form.
    Msix(MsixShape),
    /// One that [`super::Function`] does nothing for: the device reads its registers.
    Other {
        /// Its ID.
        id: u8,
        /// Bytes, ID and pointer included.
        len: u8,
        /// Registers, relative to its start; the first two bytes are ID and pointer.
        fields: Vec<Field>,
    },
}

impl Capability {
    const fn id(&self) -> u8 {
        match self {
            Self::Msi(_) => super::regs::CAP_MSI,
            Self::Msix(_) => super::regs::CAP_MSIX,
            Self::Other { id, .. } => *id,
        }
    }

    const fn len(&self) -> u8 {
        match self {
            Self::Msi(shape) => shape.len(),
            Self::Msix(_) => MsixShape::LEN,
            Self::Other { len, .. } => *len,
        }
    }

    fn fields(&self) -> Vec<Field> {
        match self {
            Self::Msi(shape) => shape.fields(),
            Self::Msix(shape) => shape.fields(),
            Self::Other { fields, .. } => fields.clone(),
        }
    }
}

/// Where each capability of a function lies: `first`, then one after the other on dwords.
pub(super) fn places(first: u8, capabilities: &[Capability]) -> Vec<u8> {
    let mut at = first;
    capabilities
        .iter()
        .map(|capability| {
            let here = at;
            at = at.saturating_add(capability.len()).saturating_add(3) & !3;
            here
        })
        .collect()
}

/// Their registers, linked.
pub(super) fn fields(places: &[u8], capabilities: &[Capability]) -> Vec<Field> {
    let nexts = places.iter().skip(1).copied().chain([0]);
    let mut fields = Vec::new();
    for ((capability, &at), next) in capabilities.iter().zip(places).zip(nexts) {
        fields.push(Field::fixed(
            "CAPID",
            at,
            Width::Byte,
            capability.id().into(),
        ));
        fields.push(Field::fixed(
            "NXTPTR",
            at.wrapping_add(1),
            Width::Byte,
            next.into(),
        ));
        fields.extend(capability.fields().into_iter().map(|field| field.moved(at)));
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_links_every_capability_and_ends() {
        let other = |id, len| Capability::Other {
            id,
            len,
            fields: vec![Field::plain("BODY", 2, Width::Word, 0, 0xffff)],
        };
        let all = [other(9, 7), other(5, 4), other(0x11, 12)];
        let places = places(0x40, &all);
        assert_eq!(places, [0x40, 0x48, 0x4c]);
        let config = crate::pci::ConfigSpace::new(fields(&places, &all));
        let (mut at, mut ids) = (0x40, Vec::new());
        while at != 0 {
            ids.push(config.byte(at));
            at = config.byte(at + 1);
        }
        assert_eq!(ids, [9, 5, 0x11]);
    }
}
