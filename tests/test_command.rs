//! `trapline test`: what it says where nothing can run, that real kernels do what is expected of them,
//! and that one that does not is found out.

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use common::{Case, Need, TRAPLINE};
use trapline::kernels::{Cache, Kernel};

fn main() -> ExitCode {
    common::main(CASES)
}

const CASES: &[Case] = &[
    Case {
        name: "an_unknown_experiment_names_the_nearest",
        needs: &[],
        run: unknown,
    },
    Case {
        name: "the_list_says_what_is_expected_of_which_kernel",
        needs: &[],
        run: list,
    },
    Case {
        name: "without_kernels_all_is_skipped_each_with_the_command_that_gets_one",
        needs: &[],
        run: no_kernels,
    },
    Case {
        name: "results_that_cannot_be_written_are_refused_before_anything_runs",
        needs: &[],
        run: unwritable,
    },
    Case {
        name: "on_debian_stacks_scatterlists_and_smap_are_as_expected",
        needs: &[Need::Lab, Need::KernelHeaders],
        run: debian,
    },
    Case {
        name: "on_debug_mistakes_are_bugs_and_the_buddy_notices_a_hard_lockup",
        needs: &[Need::Lab, Need::KernelDebug],
        run: debug,
    },
    Case {
        name: "on_novmap_an_overflow_is_silent",
        needs: &[Need::Lab, Need::KernelNovmap],
        run: novmap,
    },
    Case {
        name: "a_kernel_that_does_something_else_is_a_failure_with_its_lines",
        needs: &[Need::Lab, Need::KernelTiny],
        run: found_out,
    },
];

struct Run {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

fn test(words: &[&str], cache: Option<&Path>) -> Run {
    let mut command = Command::new(TRAPLINE);
    command.arg("test").args(words).stdin(Stdio::null());
    if let Some(cache) = cache {
        command.env("TRAPLINE_CACHE", cache);
    }
    let output = command.output().expect("it starts");
    Run {
        status: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Run {
    #[track_caller]
    fn ends(&self, status: i32) -> &Self {
        let Self { stdout, stderr, .. } = self;
        assert_eq!(self.status, Some(status), "{stdout}\n{stderr}");
        self
    }

    #[track_caller]
    fn prints(&self, text: &str) -> &Self {
        assert!(self.stdout.contains(text), "{text:?} in {}", self.stdout);
        self
    }
}

fn unknown() {
    let run = test(&["stack-overflw"], None);
    run.ends(64);
    assert!(
        run.stderr.contains("did you mean stack-overflow?"),
        "{}",
        run.stderr
    );
}

fn list() {
    let run = test(&["--list", "stack-overflow"], None);
    run.ends(0)
        .prints("on VMAP_STACK: the guard page catches the overflow at once [status 70]");
    let json = test(&["--list", "--json"], None);
    let value: serde_json::Value = serde_json::from_str(&json.ends(0).stdout).expect("JSON");
    let items = value["items"].as_array().expect("items");
    assert!(items.iter().any(|item| item["name"] == "tsc-unstable"));
}

fn no_kernels() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let run = test(&["stack-overflow", "--tap"], Some(dir.path()));
    run.ends(65).prints("TAP version 14\n1..2\n").prints(
        "ok 2 - stack-overflow on - # SKIP no kernel in the cache is for this (no VMAP_STACK, no \
         SCHED_STACK_END_CHECK); get one: trapline kernel build novmap\n",
    );
}

fn unwritable() {
    let run = test(&["--junit", "/nowhere/at/all.xml"], None);
    run.ends(64);
    assert!(
        run.stderr.contains("cannot write /nowhere/at/all.xml"),
        "{}",
        run.stderr
    );
    assert_eq!(run.stdout, "");
}

fn debian() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let results = dir.path().join("results.xml");
    let junit = results.to_str().expect("text");
    let names = ["stack-overflow", "dma-scatterlist", "smap"];
    let run = test(
        &[&names[..], &["--kernel", "debian", "--junit", junit]].concat(),
        None,
    );
    run.ends(0)
        .prints("BUG: TASK stack guard page was hit at")
        .prints("the right one: no")
        .prints("virt_to_page() of a vmalloc or VMAP_STACK address gives such values")
        .prints("3 passed, 0 failed, 0 skipped");
    let xml = fs::read_to_string(results).expect("written in the lab");
    assert!(
        xml.contains("tests=\"3\" failures=\"0\" errors=\"0\" skipped=\"0\""),
        "{xml}"
    );
}

fn debug() {
    let names = ["dma-scatterlist", "virt-to-phys", "hard-lockup"];
    let run = test(&[&names[..], &["--kernel", "debug"]].concat(), None);
    run.ends(0)
        .prints("kernel BUG at include/linux/scatterlist.h")
        .prints("kernel BUG at arch/x86/mm/physaddr.c")
        .prints("Watchdog detected hard LOCKUP on cpu 1");
}

fn novmap() {
    let run = test(
        &["stack-overflow", "stack-place", "--kernel", "novmap"],
        None,
    );
    run.ends(0)
        .prints("bytes of the module's memory below the stack were overwritten")
        .prints("stack in the direct map: yes")
        .prints("2 passed, 0 failed, 0 skipped");
}

/// The tiny kernel with a configuration beside it that tells an untruth: what is expected of it is not what
/// it does.
fn found_out() {
    let cache = Cache::from_env().expect("a cache");
    let tiny: Kernel = cache.find("tiny").expect("readable").expect("there");
    let entry = tiny.image.parent().expect("of the cache");
    let dir = tempfile::tempdir().expect("a scratch folder");
    for name in ["vmlinuz", "headers", "kernel.json"] {
        symlink(entry.join(name), dir.path().join(name)).expect("a link");
    }
    fs::write(
        dir.path().join("config"),
        "# CONFIG_VMAP_STACK is not set\n",
    )
    .expect("a file");
    let kernel = dir.path().to_str().expect("text");
    let run = test(&["stack-overflow", "--kernel", kernel, "--tap"], None);
    run.ends(75)
        .prints("not ok 1 - stack-overflow on tiny-")
        .prints("# the guest did not say \"trapline_stack: overflowing the stack at *, below which the memory")
        .prints("BUG: TASK stack guard page was hit");
}
