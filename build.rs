//! Builds what runs inside the guest, so that one installed binary carries all of it: the
//! bare-metal payloads of `guest/payloads` with the C compiler, and the init of the built-in
//! initramfs with the same `rustc` that builds the crate.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

/// Software KVM emulates ring 0 instruction by instruction, and a payload saves no vector state:
/// nothing but general registers. No red zone, because exceptions share the stack.
const PAYLOAD_FLAGS: &[&str] = &[
    "-std=gnu11",
    "-O2",
    "-Wall",
    "-Wextra",
    "-Werror=implicit-function-declaration",
    "-ffreestanding",
    "-fno-pic",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
    "-fcf-protection=none",
    "-mgeneral-regs-only",
    "-mno-red-zone",
    "-march=x86-64",
    "-mcmodel=small",
    "-ffunction-sections",
    "-fdata-sections",
];

const LINK_FLAGS: &[&str] = &[
    "-nostdlib",
    "-static",
    "-no-pie",
    "-Wl,--build-id=none",
    "-Wl,--gc-sections",
    "-Wl,-z,max-page-size=4096",
    "-Wl,-z,noexecstack",
    "-Wl,-s",
];

const PAYLOAD_NEEDS: &str =
    "It needs gcc or clang and a linker for x86-64; on Debian and Ubuntu: apt-get install gcc";
/// As kvm-unit-tests links its guests: 64-bit code in one image at 4 MiB, headers and all.
const KUT_LINK_FLAGS: &[&str] = &[
    "-nostdlib",
    "-static",
    "-no-pie",
    "-Wl,--build-id=none",
    "-Wl,-z,noexecstack",
];

const INIT_NEEDS: &str =
    "It needs the static C library, libc.a; on Debian and Ubuntu: apt-get install libc6-dev";

/// Static and without relocations: the kernel starts it before there is a loader or a library.
const INIT_FLAGS: &[&str] = &[
    "--edition=2024",
    "--crate-name=init",
    "--crate-type=bin",
    "--cap-lints=allow",
    "-Ctarget-feature=+crt-static",
    "-Crelocation-model=static",
    "-Cpanic=abort",
    "-Copt-level=s",
    "-Clto=fat",
    "-Ccodegen-units=1",
    "-Cstrip=symbols",
];

fn main() {
    for watched in ["build.rs", "guest"] {
        println!("cargo::rerun-if-changed={watched}");
    }
    println!("cargo::rerun-if-env-changed=CC");

    let out = PathBuf::from(need("OUT_DIR"));
    payloads(Path::new("guest/payloads"), &out.join("payloads"));
    test_guests(Path::new("guest/kut"), &out.join("kut"));
    init(Path::new("guest/init/main.rs"), &out.join("init"));
    init(Path::new("guest/lab-init/main.rs"), &out.join("lab-init"));
}

fn init(source: &Path, program: &Path) {
    let mut command = Command::new(need("RUSTC"));
    command.args(INIT_FLAGS).arg("--target").arg(need("TARGET"));
    // Where the user has named a linker for this target, it is the only one that is sure to be there.
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        command.arg("-C").arg(join(OsStr::new("linker="), &linker));
    }
    command.arg("-o").arg(program).arg(source);
    run(&mut command, source, INIT_NEEDS);
}

fn join(prefix: &OsStr, rest: &OsStr) -> OsString {
    let mut joined = OsString::from(prefix);
    joined.push(rest);
    joined
}

/// Every source file in `dir` is one payload; what they share is in `common/`.
fn payloads(dir: &Path, out: &Path) {
    make_dir(out);
    let cc = env::var_os("CC").unwrap_or_else(|| "cc".into());
    let common = dir.join("common");
    let objects: Vec<PathBuf> = sources(&common)
        .iter()
        .map(|source| {
            // The whole name: `traps.c` and `traps.S` are two objects.
            let object = out.join(join(&name(source), OsStr::new(".o")));
            let mut command = compiler(&cc, &common);
            command.arg("-c").arg("-o").arg(&object).arg(source);
            run(&mut command, source, PAYLOAD_NEEDS);
            object
        })
        .collect();
    for source in sources(dir) {
        let elf = out.join(name(&source)).with_extension("elf");
        let mut command = compiler(&cc, &common);
        command
            .args(LINK_FLAGS)
            .arg("-T")
            .arg(common.join("link.ld"))
            .arg("-o")
            .arg(&elf)
            .arg(&source)
            .args(&objects);
        run(&mut command, &source, PAYLOAD_NEEDS);
    }
}

/// The guests of tests/kut.rs. Who installs the program does not need them, nor objcopy for them.
fn test_guests(dir: &Path, out: &Path) {
    make_dir(out);
    let cc = env::var_os("CC").unwrap_or_else(|| "cc".into());
    let common = Path::new("guest/payloads/common");
    let object = |source: &Path| {
        let object = out.join(join(&name(source), OsStr::new(".o")));
        let mut command = compiler(&cc, common);
        command.arg("-c").arg("-o").arg(&object).arg(source);
        run(&mut command, source, PAYLOAD_NEEDS);
        object
    };
    let link = |objects: &[PathBuf], name: &str, how: &[&OsStr]| {
        let elf = out.join(name).with_extension("elf");
        let mut command = Command::new(&cc);
        command.args(KUT_LINK_FLAGS).args(how);
        command.arg("-o").arg(&elf).args(objects);
        run(&mut command, &elf, PAYLOAD_NEEDS);
        elf
    };
    let convert = |elf: &Path, format: &str, extension: &str| {
        let mut command = Command::new("objcopy");
        command
            .args(["-O", format])
            .arg(elf)
            .arg(elf.with_extension(extension));
        // It warns of the segment that holds nothing but headers, as it does of kvm-unit-tests'.
        match command.output() {
            Ok(output) if output.status.success() => {}
            _ => println!(
                "cargo::warning=objcopy did not convert {}: tests/kut.rs fails",
                elf.display()
            ),
        }
    };
    let script = join(OsStr::new("-Wl,-T,"), dir.join("flat.ld").as_os_str());
    let [start, contract, triple] =
        ["start.S", "contract.c", "triple.S"].map(|f| object(&dir.join(f)));
    let shared = object(&common.join("guest.c"));
    let flat: [&OsStr; 1] = [&script];
    let contract = [start, contract, shared];
    for elf in [
        link(&contract, "contract", &flat),
        link(&[triple], "triple", &flat),
    ] {
        convert(&elf, "elf32-i386", "flat");
    }
    for (source, at) in [
        ("sector.S", "-Wl,-Ttext=0x7c00"),
        ("long.S", "-Wl,-Ttext=0x100000"),
    ] {
        let how = [OsStr::new(at), OsStr::new("-Wl,-estart")];
        let name = source.trim_end_matches(".S");
        convert(
            &link(&[object(&dir.join(source))], name, &how),
            "binary",
            "bin",
        );
    }
}

fn compiler(cc: &OsStr, include: &Path) -> Command {
    let mut command = Command::new(cc);
    command.args(PAYLOAD_FLAGS).arg("-I").arg(include);
    command
}

/// The C and assembly files directly in `dir`, in a fixed order.
fn sources(dir: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(dir).unwrap_or_else(|e| fail(&format!("cannot list {}: {e}", dir.display())));
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| matches!(path.extension().and_then(OsStr::to_str), Some("c" | "S")))
        .collect();
    found.sort();
    found
}

fn name(path: &Path) -> OsString {
    path.file_name().unwrap_or_default().to_owned()
}

fn make_dir(dir: &Path) {
    fs::create_dir_all(dir)
        .unwrap_or_else(|e| fail(&format!("cannot create {}: {e}", dir.display())));
}

/// Runs one tool on one file; the tool's own words reach the user through cargo.
fn run(command: &mut Command, file: &Path, needs: &str) {
    let tool = command.get_program().to_string_lossy().into_owned();
    let file = file.display();
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(status) => fail(&format!("{tool} failed on {file} ({status}). {needs}")),
        Err(e) => fail(&format!("cannot run {tool} to build {file}: {e}. {needs}")),
    }
}

fn need(variable: &str) -> OsString {
    env::var_os(variable).unwrap_or_else(|| fail(&format!("cargo did not set {variable}")))
}

fn fail(message: &str) -> ! {
    println!("cargo::error={message}");
    exit(1)
}
