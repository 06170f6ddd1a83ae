//! The PCI root and its interrupt links, in AML (ACPI 6.5, 6.2; PCI Firmware 3.0, 4.3).
//!
//! A link device is one of PIIX3's PIRQs: its methods read and write PIRQRC in the ISA bridge's
//! configuration space. The power management function's pin is the SCI's own link, as in QEMU's `pc`.

use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, And, Arg, CreateDWordField, Device, EISAName, Field,
    FieldAccessType, FieldEntry, FieldLockRule, FieldUpdateRule, IO, If, LessThan, Method, Name,
    OpRegion, OpRegionSpace, Or, Package, Path, ResourceTemplate, Return, Store, ZERO,
};
use acpi_tables::{Aml, AmlSink};

use super::{Pci, Platform};

/// PIRQRC's disable bit.
const DISABLED: u8 = 0x80;
/// `_STA` of a link: present and working; enabled besides.
const STA_DISABLED: u8 = 0x09;
const STA_ENABLED: u8 = 0x0b;
/// Where the number lies in a template of one extended interrupt descriptor.
const NUMBER: u8 = 5;
/// The power management function's device, whose INTA# is the SCI.
const POWER_DEVICE: u32 = 1;

/// AML made elsewhere.
pub(super) struct Raw(pub(super) Vec<u8>);

impl Aml for Raw {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.vec(&self.0);
    }
}

/// Level-triggered, active-high, shared interrupts to choose from; acpi_tables' own has one.
struct Choices<'a>(&'a [u8]);

impl Aml for Choices<'_> {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        const EXTENDED_INTERRUPT: u8 = 0x89;
        const CONSUMER: u8 = 1 << 0;
        const SHARED: u8 = 1 << 3;
        let count = u8::try_from(self.0.len()).unwrap_or(u8::MAX);
        let len = u16::from(count).saturating_mul(4).saturating_add(2);
        sink.byte(EXTENDED_INTERRUPT);
        sink.word(len);
        sink.byte(CONSUMER | SHARED);
        sink.byte(count);
        for gsi in self.0.iter().take(count.into()) {
            sink.dword((*gsi).into());
        }
    }
}

fn bytes(aml: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    aml.to_aml_bytes(&mut bytes);
    bytes
}

/// The root with `isa`, the children of its ISA bridge; and the links beside it.
pub(super) fn build(platform: &Platform, pci: &Pci, isa: Vec<u8>) -> Vec<u8> {
    let mut aml = root(pci, isa);
    aml.extend(registers());
    for pirq in 0..4 {
        aml.extend(link(pirq, &pci.pirq_choices));
    }
    aml.extend(fixed_link(platform.sci_gsi));
    aml
}

fn root(pci: &Pci, isa: Vec<u8>) -> Vec<u8> {
    let (memory, wide) = (&pci.memory, &pci.memory_64);
    let last = |end: u64| end.saturating_sub(1);
    let narrow = |address: u64| u32::try_from(address).unwrap_or(u32::MAX);
    let buses = AddressSpace::new_bus_number(0_u16, 0xff);
    let ports_below = AddressSpace::new_io(0_u16, 0xcf7, None);
    let ports_above = AddressSpace::new_io(0xd00_u16, 0xffff, None);
    let config = IO::new(0xcf8, 0xcf8, 1, 8);
    let uncached = AddressSpaceCacheable::NotCacheable;
    let window = AddressSpace::new_memory(
        uncached,
        true,
        narrow(memory.start),
        narrow(last(memory.end)),
        None,
    );
    let wide = wide.map(|wide| {
        let cacheable = AddressSpaceCacheable::Cacheable;
        AddressSpace::new_memory(cacheable, true, wide.start, last(wide.end), None)
    });
    let mut resources: Vec<&dyn Aml> = vec![&buses, &ports_below, &config, &ports_above, &window];
    resources.extend(wide.iter().map(|w| w as &dyn Aml));

    let isa = Raw(isa);
    let pirqrc: u8 = 0x60;
    let len: u8 = 4;
    let address = |device: u32, function: u32| device << 16 | function;
    let bridge = Raw(bytes(&Device::new(
        Path::new("ISA_"),
        vec![
            &Name::new(Path::new("_ADR"), &address(1, 0)),
            &OpRegion::new(Path::new("PIRQ"), OpRegionSpace::PCIConfig, &pirqrc, &len),
            &isa,
        ],
    )));
    let routes = Raw(routes());
    bytes(&Device::new(
        Path::new("PCI0"),
        vec![
            &Name::new(Path::new("_HID"), &EISAName::new("PNP0A03")),
            &Name::new(Path::new("_ADR"), &ZERO),
            &Name::new(Path::new("_UID"), &ZERO),
            &Name::new(Path::new("_CRS"), &ResourceTemplate::new(resources)),
            &Name::new(Path::new("_PRT"), &routes),
            &bridge,
        ],
    ))
}

/// `_PRT`: the link of every pin of every device.
fn routes() -> Vec<u8> {
    const LINKS: [&str; 4] = ["LNKA", "LNKB", "LNKC", "LNKD"];
    let mut entries = Vec::new();
    for device in 0_u32..32 {
        for (pin, rotation) in (0_u8..4).zip(device.saturating_add(3)..) {
            let link = match (device, pin) {
                (POWER_DEVICE, 0) => "LNKS",
                _ => {
                    let index = usize::try_from(rotation % 4).unwrap_or_default();
                    LINKS.get(index).copied().unwrap_or("LNKA")
                }
            };
            let any_function = device << 16 | 0xffff;
            let link = Path::new(link);
            entries.push(Raw(bytes(&Package::new(vec![
                &any_function,
                &pin,
                &link,
                &ZERO,
            ]))));
        }
    }
    bytes(&Package::new(
        entries.iter().map(|e| e as &dyn Aml).collect(),
    ))
}

/// PIRQRC as fields PRQA to PRQD.
fn registers() -> Vec<u8> {
    let names = [*b"PRQA", *b"PRQB", *b"PRQC", *b"PRQD"];
    bytes(&Field::new(
        Path::new("PCI0.ISA_.PIRQ"),
        FieldAccessType::Byte,
        FieldLockRule::NoLock,
        FieldUpdateRule::Preserve,
        names.map(|name| FieldEntry::Named(name, 8)).to_vec(),
    ))
}

/// A link device's fixed objects.
fn link_device(name: &str, uid: u8, choices: &[u8], methods: Vec<&dyn Aml>) -> Vec<u8> {
    let choices = Choices(choices);
    let fixed = [
        Raw(bytes(&Name::new(
            Path::new("_HID"),
            &EISAName::new("PNP0C0F"),
        ))),
        Raw(bytes(&Name::new(Path::new("_UID"), &uid))),
        Raw(bytes(&Name::new(
            Path::new("_PRS"),
            &ResourceTemplate::new(vec![&choices]),
        ))),
    ];
    let fixed = fixed.iter().map(|object| object as &dyn Aml);
    bytes(&Device::new(
        Path::new(name),
        fixed.chain(methods).collect(),
    ))
}

fn link(pirq: u8, choices: &[u8]) -> Vec<u8> {
    let letter = char::from(b'A'.saturating_add(pirq));
    let register = Path::new(&format!("PRQ{letter}"));
    let (buffer, number) = (Path::new("BUFF"), Path::new("NUMB"));
    let none = Choices(&[0]);
    let template = Raw(bytes(&ResourceTemplate::new(vec![&none])));
    let disabled = And::new(&ZERO, &register, &DISABLED);
    link_device(
        &format!("LNK{letter}"),
        pirq,
        choices,
        vec![
            &Method::new(
                Path::new("_STA"),
                0,
                false,
                vec![
                    &If::new(&disabled, vec![&Return::new(&STA_DISABLED)]),
                    &Return::new(&STA_ENABLED),
                ],
            ),
            &Method::new(
                Path::new("_DIS"),
                0,
                false,
                vec![&Or::new(&register, &register, &DISABLED)],
            ),
            // Serialised, for it makes named objects.
            &Method::new(
                Path::new("_CRS"),
                0,
                true,
                vec![
                    &Name::new(buffer, &template),
                    &CreateDWordField::new(&Path::new("NUMB"), &Path::new("BUFF"), &NUMBER),
                    &If::new(
                        &LessThan::new(&register, &DISABLED),
                        vec![&Store::new(&number, &register)],
                    ),
                    &Return::new(&Path::new("BUFF")),
                ],
            ),
            &Method::new(
                Path::new("_SRS"),
                1,
                true,
                vec![
                    &CreateDWordField::new(&Path::new("NUMB"), &Arg(0), &NUMBER),
                    &Store::new(&register, &Path::new("NUMB")),
                ],
            ),
        ],
    )
}

/// The link of an interrupt that cannot be routed.
fn fixed_link(gsi: u8) -> Vec<u8> {
    let only = [gsi];
    let choices = Choices(&only);
    link_device(
        "LNKS",
        4,
        &only,
        vec![
            &Name::new(Path::new("_STA"), &STA_ENABLED),
            &Name::new(Path::new("_CRS"), &ResourceTemplate::new(vec![&choices])),
            &Method::new(Path::new("_DIS"), 0, false, vec![]),
            &Method::new(Path::new("_SRS"), 1, false, vec![]),
        ],
    )
}
