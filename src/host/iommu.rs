//! DMA remapping and VFIO.

use rustix::fs::{Access, access};

use super::{Fact, Mark, Root, Topic};

const GROUPS: &str = "/sys/kernel/iommu_groups";
const TABLES: &str = "/sys/firmware/acpi/tables";

/// Whether devices can be passed through, and with which interface.
#[must_use]
pub fn iommu(root: &Root) -> Vec<Fact> {
    let grouped = !root.names(GROUPS).is_empty();
    vec![
        groups(root),
        driver(root, grouped),
        nodes(root),
        iommufd(root, grouped),
    ]
}

fn fact(name: &'static str, mark: Mark, what: impl Into<String>) -> Fact {
    Fact::new(Topic::Vfio, name, mark, what)
}

fn groups(root: &Root) -> Fact {
    let count = root.names(GROUPS).len();
    let cmdline = root.text("/proc/cmdline").unwrap_or_default();
    let asked = cmdline
        .split_whitespace()
        .any(|word| word.starts_with("intel_iommu=on"));
    let table = |name: &str| root.exists(&format!("{TABLES}/{name}"));
    if count > 0 {
        fact("iommu", Mark::Ok, format!("{count} groups"))
    } else if table("DMAR") && !asked {
        // CONFIG_INTEL_IOMMU_DEFAULT_ON is the distribution's choice; AMD's is always on.
        fact(
            "iommu",
            Mark::No,
            "no groups: VT-d is there, intel_iommu=on is not",
        )
        .mended_by(
            "sudo sed -i 's/^GRUB_CMDLINE_LINUX=\"/&intel_iommu=on /' /etc/default/grub \
             && sudo update-grub  # then reboot",
        )
    } else if table("DMAR") || table("IVRS") {
        fact(
            "iommu",
            Mark::No,
            "no groups, though the firmware describes an IOMMU: see dmesg",
        )
    } else {
        fact(
            "iommu",
            Mark::No,
            "none that the firmware describes; the lab has one",
        )
    }
}

fn driver(root: &Root, grouped: bool) -> Fact {
    let folder = "/sys/bus/pci/drivers/vfio-pci";
    if root.exists(folder) {
        // Bound devices are links named by their address.
        let bound = root
            .names(folder)
            .iter()
            .filter(|name| name.contains(':'))
            .count();
        return fact(
            "vfio-pci",
            Mark::Ok,
            format!("loaded, {bound} devices bound"),
        );
    }
    let missing = fact("vfio-pci", Mark::No, "not loaded");
    if grouped {
        missing.mended_by("sudo modprobe vfio-pci")
    } else {
        missing
    }
}

/// The container and the groups of bound devices.
fn nodes(root: &Root) -> Fact {
    let may = |name: &str| {
        let path = root.path("/dev/vfio").join(name);
        access(path, Access::READ_OK | Access::WRITE_OK).is_ok()
    };
    let names = root.names("/dev/vfio");
    let is_group = |name: &&String| name.chars().all(|c| c.is_ascii_digit());
    let closed: Vec<String> = names
        .iter()
        .filter(|name| is_group(name) || *name == "vfio")
        .filter(|name| !may(name))
        .map(|name| format!("/dev/vfio/{name}"))
        .collect();
    if names.is_empty() {
        fact("/dev/vfio", Mark::No, "missing: vfio is not loaded")
    } else if closed.is_empty() {
        let groups = names.iter().filter(is_group).count();
        fact(
            "/dev/vfio",
            Mark::Ok,
            format!("{groups} groups open to you"),
        )
    } else {
        let closed = closed.join(" ");
        fact("/dev/vfio", Mark::No, format!("no permission on {closed}"))
            .mended_by(format!("sudo chown \"$USER\" {closed}"))
    }
}

fn iommufd(root: &Root, grouped: bool) -> Fact {
    if root.exists("/dev/iommu") {
        return fact("iommufd", Mark::Ok, "/dev/iommu is there");
    }
    let missing = fact(
        "iommufd",
        Mark::Warn,
        "no /dev/iommu (Linux 6.2, CONFIG_IOMMUFD)",
    );
    if grouped {
        missing.mended_by("sudo modprobe iommufd")
    } else {
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    fn named(fake: &Fake, name: &str) -> Fact {
        let facts = iommu(&fake.root());
        facts.into_iter().find(|fact| fact.name == name).unwrap()
    }

    #[test]
    fn vt_d_that_is_off_is_switched_on_by_its_parameter() {
        let dmar = || Fake::with_flags("vmx").file("/sys/firmware/acpi/tables/DMAR", "");
        let off = named(&dmar().file("/proc/cmdline", "quiet"), "iommu");
        assert_eq!(off.mark, Mark::No);
        assert!(off.mend.unwrap().contains("intel_iommu=on"));
        let asked = dmar().file("/proc/cmdline", "intel_iommu=on,sm_on quiet");
        assert_eq!(named(&asked, "iommu").mend, None);
    }

    #[test]
    fn without_groups_no_module_would_help() {
        let bare = Fake::with_flags("svm");
        assert!(iommu(&bare.root()).iter().all(|fact| fact.mend.is_none()));
        let grouped = bare.file("/sys/kernel/iommu_groups/0/type", "DMA");
        assert_eq!(named(&grouped, "iommu").what, "1 groups");
        assert_eq!(
            named(&grouped, "vfio-pci").mend.as_deref(),
            Some("sudo modprobe vfio-pci")
        );
    }

    #[test]
    fn bound_devices_are_counted_by_their_links() {
        let fake = Fake::with_flags("svm")
            .file("/sys/bus/pci/drivers/vfio-pci/0000:00:03.0/x", "")
            .file("/sys/bus/pci/drivers/vfio-pci/new_id", "")
            .file("/dev/vfio/vfio", "")
            .file("/dev/vfio/7", "");
        assert_eq!(named(&fake, "vfio-pci").what, "loaded, 1 devices bound");
        assert_eq!(named(&fake, "/dev/vfio").what, "1 groups open to you");
    }
}
