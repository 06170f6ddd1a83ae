//! Which options a kernel is asked to have, and whether it got them.

use std::cmp::Ordering;

use super::{BuildRequest, make};
use crate::kernels::options::Options;
use crate::kernels::release;

const BASE: &str = include_str!("../../../resources/kernel/base.config");
const VMAP: &str = include_str!("../../../resources/kernel/vmap.config");
const NOVMAP: &str = include_str!("../../../resources/kernel/novmap.config");
const STACKEND: &str = include_str!("../../../resources/kernel/stackend.config");
const DEBUG: &str = include_str!("../../../resources/kernel/debug.config");
const LAB: &str = include_str!("../../../resources/kernel/lab.config");
const KCOV: &str = include_str!("../../../resources/kernel/kcov.config");
const KASAN: &str = include_str!("../../../resources/kernel/kasan.config");

/// The kernels that can be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Recipe {
    /// Small and quick to boot, with guarded stacks
    Tiny,
    /// Tiny with LKDTM and the checks that find a driver's mistakes
    Debug,
    /// Debug without guarded stacks: the contrast
    Novmap,
    /// The lab's own: KVM, VFIO, iommufd, 9p, everything built in
    Lab,
}

impl Recipe {
    /// The name on the command line and in the cache.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tiny => "tiny",
            Self::Debug => "debug",
            Self::Novmap => "novmap",
            Self::Lab => "lab",
        }
    }

    const fn fragments(self) -> &'static [&'static str] {
        match self {
            Self::Tiny => &[BASE, VMAP],
            Self::Debug => &[BASE, DEBUG, VMAP, STACKEND],
            Self::Novmap => &[BASE, DEBUG, NOVMAP],
            Self::Lab => &[BASE, LAB, VMAP],
        }
    }
}

/// Everything that is asked of one build, as a configuration fragment.
pub(super) fn compose(request: &BuildRequest<'_>, version: &str, suffix: &str) -> String {
    let mut text = format!("CONFIG_LOCALVERSION=\"{suffix}\"\n");
    text.push_str(make::compression());
    let extras = [(request.kcov, KCOV), (request.kasan, KASAN)];
    let extras = extras.iter().filter(|(on, _)| *on).map(|(_, text)| text);
    for fragment in request.recipe.fragments().iter().chain(extras) {
        for line in applying(fragment, version) {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// The lines of a fragment that set something in this version. `# since 6.5` holds back what follows
/// it, up to the next empty line, from older kernels.
fn applying<'a>(fragment: &'a str, version: &'a str) -> impl Iterator<Item = &'a str> {
    let mut too_new = false;
    fragment.lines().filter(move |line| {
        if line.trim().is_empty() {
            too_new = false;
        } else if let Some(since) = line.strip_prefix("# since ") {
            too_new = release::compare(version, since.trim()) == Ordering::Less;
        }
        !too_new && setting(line).is_some()
    })
}

/// Name and value a line asks for; `n` for `is not set`.
fn setting(line: &str) -> Option<(&str, &str)> {
    let off = |line: &'_ str| line.len() - " is not set".len();
    if let Some(rest) = line.strip_prefix("# CONFIG_") {
        return rest
            .ends_with(" is not set")
            .then(|| (rest.split_at(off(rest)).0, "n"));
    }
    line.strip_prefix("CONFIG_")?.split_once('=')
}

/// What was asked for and is otherwise. An option asked for twice is asked for as it stands last.
pub(super) fn not_kept(asked: &str, got: &Options) -> Vec<String> {
    let wanted = Options::parse(asked);
    let mut names: Vec<&str> = asked
        .lines()
        .filter_map(setting)
        .map(|(name, _)| name)
        .collect();
    names.sort_unstable();
    names.dedup();
    let off = |value: Option<&str>| value.unwrap_or("n").to_owned();
    names
        .into_iter()
        .map(|name| (name, off(wanted.get(name)), off(got.get(name))))
        .filter(|(_, wanted, got)| wanted != got)
        .map(|(name, wanted, got)| format!("{name}={wanted} (is {got})"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(recipe: Recipe) -> BuildRequest<'static> {
        BuildRequest {
            recipe,
            source: None,
            suite: None,
            kcov: false,
            kasan: false,
            jobs: 1,
        }
    }

    fn asked(recipe: Recipe, version: &str) -> Options {
        Options::parse(&compose(&request(recipe), version, "-x"))
    }

    #[test]
    fn every_line_of_a_fragment_is_a_setting_or_a_comment() {
        for fragment in [BASE, VMAP, NOVMAP, STACKEND, DEBUG, LAB, KCOV, KASAN] {
            for line in fragment.lines().filter(|l| !l.is_empty()) {
                let known = setting(line).is_some()
                    || (line.starts_with("# ") && !line.contains("CONFIG_"));
                assert!(known, "{line}");
            }
        }
    }

    #[test]
    fn novmap_differs_from_debug_in_its_stacks_alone() {
        let (debug, novmap) = (asked(Recipe::Debug, "6.12"), asked(Recipe::Novmap, "6.12"));
        assert!(debug.is_on("VMAP_STACK") && debug.is_on("SCHED_STACK_END_CHECK"));
        assert_eq!(
            (
                novmap.get("VMAP_STACK"),
                novmap.get("SCHED_STACK_END_CHECK")
            ),
            (None, None)
        );
        for name in super::super::super::options::NOTABLE
            .iter()
            .filter(|n| **n != "VMAP_STACK")
        {
            assert_eq!(debug.get(name), novmap.get(name), "{name}");
        }
    }

    #[test]
    fn the_lab_has_what_the_lab_needs() {
        let lab = asked(Recipe::Lab, "6.12");
        for name in [
            "KVM_AMD",
            "KVM_INTEL",
            "VFIO_DEVICE_CDEV",
            "IOMMUFD",
            "9P_FS",
            "VIRTIO_CONSOLE",
            "VMAP_STACK",
        ] {
            assert_eq!(lab.get(name), Some("y"), "{name}: built in");
        }
    }

    #[test]
    fn since_holds_back_a_paragraph_from_older_kernels() {
        let text = "CONFIG_A=y\n# since 6.5\nCONFIG_B=y\nCONFIG_C=y\n\nCONFIG_D=y\n";
        let of = |version| applying(text, version).collect::<Vec<_>>().join(" ");
        assert_eq!(of("6.1.192"), "CONFIG_A=y CONFIG_D=y");
        assert_eq!(of("6.12.0"), "CONFIG_A=y CONFIG_B=y CONFIG_C=y CONFIG_D=y");
    }

    #[test]
    fn what_was_not_kept_is_named_with_what_it_became() {
        let got = Options::parse("CONFIG_A=y\nCONFIG_B=m\nCONFIG_C=y\n");
        let asked = "CONFIG_A=y\nCONFIG_B=y\n# CONFIG_C is not set\nCONFIG_D=y\n# CONFIG_E is not set\n\
                     CONFIG_F=y\n# CONFIG_F is not set\n";
        assert_eq!(
            not_kept(asked, &got),
            ["B=y (is m)", "C=n (is y)", "D=y (is n)"]
        );
        assert!(not_kept("CONFIG_A=y\n", &got).is_empty());
    }
}
