//! Base address registers (PCI 3.0, 6.2.5).

use crate::bus::{Place, Width, Window};
use crate::trace::Space;

use super::field::Field;
use super::regs;
use super::space::ConfigSpace;

/// What a BAR decodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarKind {
    /// Ports.
    Io,
    /// Memory below 4 GiB.
    Memory32,
    /// Prefetchable memory anywhere; takes two registers.
    Memory64,
}

/// A base address register. Its window's number is its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bar {
    /// 0 to 5; a 64-bit one takes the next too.
    pub index: u8,
    /// Name for listings.
    pub name: &'static str,
    /// What it decodes.
    pub kind: BarKind,
    /// How much; a power of two, at least 4 ports or 16 bytes.
    pub len: u64,
}

impl Bar {
    const fn offset(&self) -> u8 {
        regs::BAR0.wrapping_add(self.index.wrapping_mul(4))
    }

    const fn space(&self) -> Space {
        match self.kind {
            BarKind::Io => Space::Pio,
            BarKind::Memory32 | BarKind::Memory64 => Space::Mmio,
        }
    }

    /// The bits of the address that can be written.
    const fn mask(&self) -> u64 {
        let all = match self.kind {
            // A PC has 16 bits of ports; the upper half may be hardwired to zero (6.2.5.1).
            BarKind::Io => 0xffff,
            BarKind::Memory32 => 0xffff_ffff,
            BarKind::Memory64 => u64::MAX,
        };
        all & !self.len.wrapping_sub(1)
    }

    /// Its registers.
    pub(super) fn fields(&self) -> Vec<Field> {
        const NAMES: [&str; 6] = ["BAR0", "BAR1", "BAR2", "BAR3", "BAR4", "BAR5"];
        let name = |index: u8| NAMES.get(usize::from(index)).copied().unwrap_or("BAR");
        let kind = match self.kind {
            BarKind::Io => regs::BAR_IO,
            BarKind::Memory32 => 0,
            BarKind::Memory64 => regs::BAR_64 | regs::BAR_PREFETCH,
        };
        let half = |value: u64| u32::try_from(value & 0xffff_ffff).unwrap_or_default();
        let low = half(self.mask());
        let mut fields = vec![Field::plain(
            name(self.index),
            self.offset(),
            Width::Dword,
            kind,
            low,
        )];
        if self.kind == BarKind::Memory64 {
            fields.push(Field::plain(
                name(self.index.wrapping_add(1)),
                self.offset().wrapping_add(4),
                Width::Dword,
                0,
                half(self.mask() >> 32),
            ));
        }
        fields
    }

    /// Its window, not placed.
    pub(super) const fn window(&self) -> Window {
        Window {
            id: self.index,
            name: self.name,
            space: self.space(),
            base: None,
            len: self.len,
        }
    }

    /// Where it lies by `config`; none while decoding is off, and where it cannot be: at address
    /// zero, which is a BAR not yet set, or past the end of its space.
    pub(super) fn place(&self, config: &ConfigSpace) -> Option<Place> {
        let (enable, end) = match self.kind {
            BarKind::Io => (regs::COMMAND_IO, 0xffff),
            BarKind::Memory32 => (regs::COMMAND_MEMORY, 0xffff_ffff),
            BarKind::Memory64 => (regs::COMMAND_MEMORY, u64::MAX),
        };
        if config.word(regs::COMMAND) & enable == 0 {
            return None;
        }
        let low = u64::from(config.dword(self.offset()));
        let high = match self.kind {
            BarKind::Memory64 => u64::from(config.dword(self.offset().wrapping_add(4))),
            _ => 0,
        };
        let base = (high << 32 | low) & self.mask();
        let last = base.checked_add(self.len.checked_sub(1)?)?;
        (base != 0 && last <= end).then_some(Place {
            window: self.index,
            space: self.space(),
            base,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pci::Header;

    fn config(bar: Bar) -> ConfigSpace {
        let mut fields = Header::new(1, 2, 0xff_0000).fields(None);
        fields.extend(bar.fields());
        let mut config = ConfigSpace::new(fields);
        config.write(regs::COMMAND, Width::Word, 3);
        config
    }

    fn bar(kind: BarKind, len: u64) -> Bar {
        Bar {
            index: 2,
            name: "bar",
            kind,
            len,
        }
    }

    /// Sizing as an OS does it: write ones, read back, put back.
    fn sized(config: &mut ConfigSpace, offset: u8) -> u32 {
        let was = config.dword(offset);
        config.write(offset, Width::Dword, u64::MAX);
        let ones = config.dword(offset);
        config.write(offset, Width::Dword, was.into());
        assert_eq!(config.dword(offset), was);
        ones
    }

    #[test]
    fn writing_ones_shows_kind_and_size() {
        for (kind, len, low) in [
            (BarKind::Io, 16, 0xfff1),
            (BarKind::Memory32, 1 << 20, 0xfff0_0000),
            (BarKind::Memory64, 1 << 20, 0xfff0_000c),
            (BarKind::Memory64, 8 << 30, 0xc),
        ] {
            let mut config = config(bar(kind, len));
            assert_eq!(sized(&mut config, 0x18), low, "{kind:?} {len:#x}");
        }
        let mut config = config(bar(BarKind::Memory64, 8 << 30));
        assert_eq!(sized(&mut config, 0x1c), 0xffff_fffe);
    }

    #[test]
    fn a_bar_is_placed_only_where_it_can_be_and_while_it_decodes() {
        let io = bar(BarKind::Io, 16);
        let mut config = config(io);
        assert_eq!(io.place(&config), None, "not set");
        config.write(0x18, Width::Dword, 0xc001);
        assert_eq!(io.place(&config).unwrap().base, 0xc000);
        config.write(0x18, Width::Dword, 0xffff_ffff);
        assert_eq!(io.place(&config).unwrap().base, 0xfff0);
        config.write(regs::COMMAND, Width::Word, 2);
        assert_eq!(io.place(&config), None, "no I/O");
    }

    #[test]
    fn a_bar_at_the_end_of_its_space_does_not_wrap() {
        let wide = bar(BarKind::Memory64, 1 << 20);
        let mut config = config(wide);
        config.write(0x18, Width::Dword, u64::MAX);
        config.write(0x1c, Width::Dword, u64::MAX);
        assert_eq!(wide.place(&config).unwrap().base, u64::MAX << 20);
        let narrow = bar(BarKind::Memory32, 1 << 20);
        assert_eq!(narrow.place(&config).unwrap().base, 0xfff0_0000);
    }
}
