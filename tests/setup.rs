//! `resources/setup.sh` against a pretended Debian: `dpkg-query` and `apt-get` are scripts that answer
//! from files and write down how they were called.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/resources/setup.sh");

/// Says `installed NAME` for every name not in `absent`.
const DPKG_QUERY: &str = r#"
format=$2
shift 2
case $format in *Version*) echo "$1 10.0 is in the way"; exit;; esac
for name; do grep -qx "$name" "$WORLD/absent" || echo "installed $name"; done
"#;

/// Answers a simulation from `plan.N`, N counting up; a file `plan.N.fails` makes it fail.
const APT_GET: &str = r#"
echo "$*" >> "$WORLD/calls"
case $1 in -s)
    n=$(cat "$WORLD/n"); echo $((n + 1)) > "$WORLD/n"
    cat "$WORLD/plan.$n"
    [ ! -e "$WORLD/plan.$n.fails" ];;
esac
"#;

struct World {
    dir: TempDir,
}

impl World {
    fn without(absent: &[&str]) -> Self {
        let world = Self {
            dir: TempDir::new().unwrap(),
        };
        world.file("absent", &absent.join("\n"));
        world.file("n", "1");
        world.file("calls", "");
        for (name, body) in [
            ("dpkg-query", DPKG_QUERY),
            ("apt-get", APT_GET),
            ("id", "echo 0"),
        ] {
            world.file(&format!("bin/{name}"), &format!("#!/bin/sh\n{body}"));
            let bits = fs::Permissions::from_mode(0o755);
            fs::set_permissions(world.path(&format!("bin/{name}")), bits).unwrap();
        }
        for tool in ["bash", "sh", "grep", "awk", "paste", "cat", "env"] {
            let real = ["/usr/bin", "/bin"].map(|dir| Path::new(dir).join(tool));
            let real = real.iter().find(|path| path.exists()).unwrap();
            symlink(real, world.path(&format!("bin/{tool}"))).unwrap();
        }
        world
    }

    /// The answer of the `n`th simulation.
    fn plan(self, n: u32, fails: bool, text: &str) -> Self {
        self.file(&format!("plan.{n}"), text);
        if fails {
            self.file(&format!("plan.{n}.fails"), "");
        }
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path("bin")).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new("bash")
            .arg(SCRIPT)
            .args(arguments)
            .env("PATH", self.path("bin"))
            .env("WORLD", self.dir.path())
            .output()
            .unwrap()
    }

    /// What apt-get was asked, simulations left out.
    fn acts(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.path("calls")).unwrap();
        let acts = calls.lines().filter(|call| !call.starts_with("-s "));
        acts.map(str::to_owned).collect()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_ready_machine_is_left_alone() {
    let world = World::without(&[]);
    let out = world.run(&[]);
    assert!(out.status.success());
    assert!(text(&out.stdout).contains("nothing to do"));
    assert_eq!(fs::read_to_string(world.path("calls")).unwrap(), "");
}

#[test]
fn check_names_what_is_missing_and_installs_nothing() {
    let world = World::without(&["flex", "bc"]);
    let out = world.run(&["--check"]);
    assert_eq!(out.status.code(), Some(65));
    assert!(text(&out.stderr).contains("missing: flex bc"));
    assert!(world.acts().is_empty());
}

#[test]
fn only_what_is_missing_is_installed_and_nothing_is_removed() {
    let world = World::without(&["flex"]).plan(1, false, "Inst flex (2.6)\nConf flex\n");
    assert!(world.run(&[]).status.success());
    let [install] = &world.acts()[..] else {
        panic!("{:?}", world.acts())
    };
    assert!(install.ends_with("--no-remove flex"), "{install}");
}

#[test]
fn a_removal_needs_yes() {
    let plan = "Remv qemu-utils [1:10.0]\nInst qemu-system-x86 (1:7.2)\n";
    let world = World::without(&["qemu-system-x86"]).plan(1, false, plan);
    let out = world.run(&[]);
    assert_eq!(out.status.code(), Some(65));
    let said = text(&out.stderr);
    assert!(said.contains("qemu-utils 10.0 is in the way"), "{said}");
    assert!(said.contains("resources/setup.sh --yes"), "{said}");
    assert!(world.acts().is_empty());

    let world = World::without(&["qemu-system-x86"]).plan(1, false, plan);
    let out = world.run(&["--yes"]);
    assert!(text(&out.stdout).contains("removing: qemu-utils"));
    assert!(out.status.success());
    assert_eq!(world.acts().len(), 1);
}

#[test]
fn lists_are_updated_only_when_apt_does_not_know_a_package() {
    let world = World::without(&["flex"])
        .plan(1, true, "E: Unable to locate package flex\n")
        .plan(2, false, "Inst flex (2.6)\n");
    assert!(world.run(&[]).status.success());
    assert_eq!(world.acts()[0], "update -q");
    assert_eq!(world.acts().len(), 2);
}

#[test]
fn a_qemu_utils_that_blocks_apt_is_named() {
    let broken = "E: Unable to correct problems, you have held broken packages.\n";
    let world = World::without(&["qemu-system-x86"])
        .plan(1, true, broken)
        .plan(2, true, broken)
        .plan(3, false, "Remv qemu-utils [1:10.0]\nInst qemu-system-x86\n");
    let out = world.run(&[]);
    assert!(text(&out.stderr).contains("qemu-utils 10.0 is in the way"));
    assert_eq!(world.acts(), ["update -q"]);
}

#[test]
fn what_apt_cannot_do_is_said_in_its_own_words() {
    let broken = "E: Unable to locate package flex\n";
    let world = (1..=3).fold(World::without(&["flex"]), |world, n| {
        world.plan(n, true, broken)
    });
    let out = world.run(&["--yes"]);
    assert_eq!(out.status.code(), Some(65));
    assert!(text(&out.stderr).contains("Unable to locate package flex"));
}

#[test]
fn an_unknown_option_is_a_bad_command_line() {
    assert_eq!(
        World::without(&[]).run(&["--force"]).status.code(),
        Some(64)
    );
}
