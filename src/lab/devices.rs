//! The PCI devices of a lab: a fixed table, so that what is written about `00:03.0` stays true.

/// Which devices a lab has besides those it works through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Devices {
    /// None and no IOMMU: the quickest start.
    #[default]
    None,
    /// An Intel IOMMU with interrupt remapping, and [`TABLE`].
    Table,
}

/// One function of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableDevice {
    /// Its address in the lab.
    pub bdf: &'static str,
    /// QEMU's name for it.
    pub model: &'static str,
    /// Vendor and device id.
    pub id: &'static str,
    /// How Linux can reset it.
    pub reset: &'static str,
    /// What it is there for.
    pub what: &'static str,
    args: &'static [&'static str],
}

const fn device(
    bdf: &'static str,
    model: &'static str,
    id: &'static str,
    reset: &'static str,
    what: &'static str,
    args: &'static [&'static str],
) -> TableDevice {
    TableDevice {
        bdf,
        model,
        id,
        reset,
        what,
        args,
    }
}

/// Every function of [`Devices::Table`]. Bus 01 is behind the root port, bus 02 behind the bridge;
/// what is behind the bridge is one IOMMU group, because the bridge sends its own requester id.
pub const TABLE: [TableDevice; 9] = [
    device(
        "00:03.0",
        "edu",
        "1234:11e8",
        "none",
        "DMA and MSI, alone in its group",
        &["-device", "edu,addr=03.0"],
    ),
    device(
        "00:04.0",
        "pcie-root-port",
        "1b36:000c",
        "-",
        "root port of bus 01",
        &["-device", "pcie-root-port,id=port1,addr=04.0,chassis=1"],
    ),
    device(
        "01:00.0",
        "edu",
        "1234:11e8",
        "bus",
        "the same behind a root port",
        &["-device", "edu,bus=port1"],
    ),
    device(
        "00:05.0",
        "e1000e",
        "8086:10d3",
        "pm",
        "network card, on a hub with the next",
        &[
            "-netdev",
            "hubport,id=hub0.pass,hubid=0",
            "-device",
            "e1000e,addr=05.0,netdev=hub0.pass,mac=52:54:00:74:72:01,romfile=",
        ],
    ),
    device(
        "00:06.0",
        "virtio-net-pci",
        "1af4:1000",
        "-",
        "network card the lab keeps",
        &[
            "-netdev",
            "hubport,id=hub0.keep,hubid=0",
            "-device",
            "virtio-net-pci,addr=06.0,netdev=hub0.keep,mac=52:54:00:74:72:02,romfile=",
            // The hub's third port: DHCP, and with restrict=on no way out.
            "-netdev",
            "user,id=closed,restrict=on",
            "-netdev",
            "hubport,id=hub0.user,hubid=0,netdev=closed",
        ],
    ),
    device(
        "00:07.0",
        "nvme",
        "1b36:0010",
        "flr",
        "disk of zeros that forgets",
        &[
            "-blockdev",
            "null-co,node-name=zeros,size=67108864,read-zeroes=on",
            "-device",
            "nvme,addr=07.0,drive=zeros,serial=trapline",
        ],
    ),
    device(
        "00:08.0",
        "pcie-pci-bridge",
        "1b36:000e",
        "-",
        "bridge of bus 02",
        &["-device", "pcie-pci-bridge,id=bridge2,addr=08.0"],
    ),
    device(
        "02:01.0",
        "edu",
        "1234:11e8",
        "none",
        "first of a group of two",
        &["-device", "edu,bus=bridge2,addr=01.0"],
    ),
    device(
        "02:02.0",
        "edu",
        "1234:11e8",
        "none",
        "second of a group of two",
        &["-device", "edu,bus=bridge2,addr=02.0"],
    ),
];

impl Devices {
    /// QEMU's arguments for them.
    pub(super) fn arguments(self) -> Vec<&'static str> {
        match self {
            Self::None => Vec::new(),
            // An IOMMU must come before what it is in front of.
            Self::Table => ["-device", "intel-iommu,intremap=on,caching-mode=off"]
                .into_iter()
                .chain(TABLE.iter().flat_map(|device| device.args).copied())
                .collect(),
        }
    }

    /// What the lab's kernel is told of them.
    pub(super) const fn command_line(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Table => " intel_iommu=on",
        }
    }

    /// Modules besides those every lab loads, and whether a kernel may lack them.
    pub(super) const fn modules(self) -> &'static [&'static str] {
        match self {
            Self::None => &[],
            Self::Table => &["vfio_pci", "vfio_iommu_type1", "virtio_net"],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_device_is_put_where_the_table_says() {
        for device in TABLE.iter().filter(|d| d.bdf.starts_with("00:")) {
            let slot = device.bdf.strip_prefix("00:").unwrap();
            let at = format!("addr={slot}");
            assert!(
                device.args.iter().any(|arg| arg.contains(&at)),
                "{device:?}"
            );
        }
    }

    #[test]
    fn no_address_is_given_twice() {
        for (n, device) in TABLE.iter().enumerate() {
            assert!(
                TABLE
                    .iter()
                    .skip(n + 1)
                    .all(|other| other.bdf != device.bdf)
            );
        }
    }

    #[test]
    fn the_network_has_no_way_out() {
        let arguments = Devices::Table.arguments();
        for user in arguments.iter().filter(|arg| arg.starts_with("user,")) {
            assert!(user.contains("restrict=on"), "{user}");
        }
    }
}
