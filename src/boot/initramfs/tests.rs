//! What the kernel would unpack, read back by an independent reader of the format.

use super::*;
use crate::boot::job::{Action, Terminal};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Unpacked {
    mode: u32,
    device: (u32, u32),
    data: Vec<u8>,
}

/// Reads an archive as the kernel does: later entries replace earlier ones, folders come first.
fn unpack(archive: &[u8]) -> BTreeMap<String, Unpacked> {
    let mut tree = BTreeMap::new();
    let mut at = 0;
    loop {
        let field = |n: usize| {
            let start = at + 6 + 8 * n;
            let text = std::str::from_utf8(&archive[start..start + 8]).unwrap();
            u32::from_str_radix(text, 16).unwrap()
        };
        assert_eq!(&archive[at..at + 6], b"070701");
        let (mode, size, name_size) = (field(1), field(6) as usize, field(11) as usize);
        let device = (field(9), field(10));
        let name_at = at + 110;
        let name = String::from_utf8(archive[name_at..name_at + name_size - 1].to_vec()).unwrap();
        assert_eq!(archive[name_at + name_size - 1], 0);
        let data_at = (name_at + name_size).next_multiple_of(4);
        let data = archive[data_at..data_at + size].to_vec();
        at = (data_at + size).next_multiple_of(4);
        if name == "TRAILER!!!" {
            assert_eq!(at, archive.len());
            return tree;
        }
        if let Some((folder, _)) = name.rsplit_once('/') {
            let folder: &Unpacked = &tree[folder];
            assert_eq!(folder.mode & 0o170_000, cpio::S_IFDIR, "parent of {name}");
        }
        tree.insert(name, Unpacked { mode, device, data });
    }
}

fn names(tree: &BTreeMap<String, Unpacked>) -> Vec<&str> {
    tree.keys().map(String::as_str).collect()
}

#[test]
fn the_plain_initramfs_is_init_and_the_nodes_the_kernel_needs() {
    let tree = unpack(&builtin(&Job::default(), None, &[], &[]).unwrap());
    assert_eq!(names(&tree), ["dev", "dev/console", "dev/null", "init"]);
    assert_eq!(tree["init"].mode, 0o100_755);
    assert_eq!(tree["init"].data, INIT);
    assert_eq!(tree["dev/console"].mode, 0o020_600);
    assert_eq!(tree["dev/console"].device, (5, 1));
}

#[test]
fn init_is_a_static_program() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("init");
    fs::write(&path, INIT).unwrap();
    assert!(is_static_elf(&path));
    assert!(!is_static_elf(Path::new("/proc/self/exe")));
    assert!(!is_static_elf(Path::new("/etc/passwd")));
    assert!(!is_static_elf(Path::new("/no/such/file")));
}

#[test]
fn a_job_survives_the_way_into_the_guest() {
    let job = Job {
        modules: vec![b"/trapline/modules/a.ko".to_vec()],
        terminal: Some(Terminal {
            name: b"xterm".to_vec(),
            columns: 132,
            rows: 43,
        }),
        environment: vec![(b"A".to_vec(), b"x\ny=\0\xff".to_vec())],
        action: Action::Program(vec![b"".to_vec(), b"two\nlines 3\n".to_vec(), vec![0xff]]),
        input: true,
        get: vec![b"/tmp/a b".to_vec()],
    };
    let bytes = job.encode();
    assert_eq!(Job::decode(&bytes).unwrap(), job);
    for end in 0..bytes.len() {
        assert_ne!(Job::decode(&bytes[..end]).as_ref(), Ok(&job));
    }
    for action in [
        Action::Nothing,
        Action::Shell,
        Action::Script(b"exit 7".to_vec()),
    ] {
        let job = Job {
            action,
            ..Job::default()
        };
        assert_eq!(Job::decode(&job.encode()).unwrap(), job);
    }
}

#[test]
fn modules_are_named_in_the_job_in_their_order() {
    let modules = [
        ("virtio".into(), vec![1]),
        ("virtio_net".into(), vec![2, 2]),
    ];
    let tree = unpack(&builtin(&Job::default(), None, &modules, &[]).unwrap());
    let job = Job::decode(&tree["trapline/job"].data).unwrap();
    let [first, second] = job.modules.as_slice() else {
        panic!("two modules: {job:?}");
    };
    assert_eq!(first, b"/trapline/modules/virtio.ko");
    assert_eq!(
        tree[std::str::from_utf8(&second[1..]).unwrap()].data,
        [2, 2]
    );
}

#[test]
fn equal_input_gives_equal_bytes() {
    let make = || builtin(&Job::default(), None, &[("m".into(), vec![3])], &[]).unwrap();
    assert_eq!(make(), make());
}

#[test]
fn what_would_be_lost_in_the_kernel_is_refused_here() {
    let mut initramfs = Initramfs::new();
    initramfs.file("/a", 0o644, b"1").unwrap();
    let below = initramfs.file("/a/b", 0o644, b"2").unwrap_err();
    assert!(matches!(below, InitramfsError::Occupied(path) if path == Path::new("a")));
    assert!(matches!(
        initramfs.dir("/a", 0o755),
        Err(InitramfsError::Occupied(_))
    ));
    assert!(matches!(
        initramfs.file("/", 0o644, b""),
        Err(InitramfsError::Occupied(_))
    ));
    let long = "/d".repeat(3000);
    assert!(matches!(
        initramfs.file(long, 0o644, b""),
        Err(InitramfsError::TooLong { .. })
    ));
}

#[test]
fn links_in_the_tree_are_followed_and_circles_end() {
    let mut initramfs = Initramfs::new();
    initramfs.symlink("/lib", "usr/lib").unwrap();
    initramfs.file("/lib/x/../libc.so", 0o755, b"c").unwrap();
    initramfs.symlink("/p", "/q").unwrap();
    initramfs.symlink("/q", "p").unwrap();
    assert!(matches!(
        initramfs.file("/p/file", 0o644, b""),
        Err(InitramfsError::Loop(_))
    ));
    let tree = unpack(&initramfs.finish());
    assert_eq!(
        names(&tree),
        ["lib", "p", "q", "usr", "usr/lib", "usr/lib/libc.so"]
    );
}

#[test]
fn a_folder_keeps_its_inner_links_and_takes_what_outer_ones_lead_to() {
    let dir = tempfile::tempdir().unwrap();
    let (tree, outside) = (dir.path().join("tree"), dir.path().join("outside"));
    fs::create_dir_all(tree.join("sub")).unwrap();
    fs::write(&outside, b"from outside").unwrap();
    fs::write(tree.join("sub/real"), b"real").unwrap();
    fs::set_permissions(tree.join("sub/real"), fs::Permissions::from_mode(0o751)).unwrap();
    symlink("sub/real", tree.join("inner")).unwrap();
    symlink("../outside", tree.join("outer")).unwrap();
    symlink("nowhere", tree.join("dangling")).unwrap();
    symlink(tree.join("sub/real"), tree.join("absolute")).unwrap();

    let mut initramfs = Initramfs::new();
    initramfs.add_host(&tree, "/t").unwrap();
    let unpacked = unpack(&initramfs.finish());
    assert_eq!(unpacked["t/inner"].data, b"sub/real");
    assert_eq!(unpacked["t/dangling"].data, b"nowhere");
    assert_eq!(unpacked["t/outer"].data, b"from outside");
    assert_eq!(unpacked["t/absolute"].data, b"real");
    assert_eq!(unpacked["t/sub/real"].mode, 0o100_751);

    let mut single = Initramfs::new();
    single.add_host(&outside, "/into/").unwrap();
    assert!(unpack(&single.finish()).contains_key("into/outside"));
}

#[test]
fn a_link_back_to_a_folder_around_it_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("a/b")).unwrap();
    let back = dir.path().join("a/b/back");
    symlink(dir.path(), &back).unwrap();
    let error = Initramfs::new()
        .add_host(dir.path().join("a"), "/a")
        .map(drop)
        .unwrap_err();
    assert!(matches!(error, InitramfsError::Cycle(_)), "{error}");
}

#[test]
fn a_socket_is_named_and_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let error = Initramfs::new()
        .add_host(dir.path(), "/d")
        .map(drop)
        .unwrap_err();
    assert!(error.to_string().contains("socket"), "{error}");
}

/// Compiles a shared library or a program that uses it; `cc` is there, or the crate could not have
/// been built.
fn compile(dir: &Path, source: &str, arguments: &[&str]) {
    fs::write(dir.join("x.c"), source).unwrap();
    let done = Command::new("cc")
        .current_dir(dir)
        .args(["-o"])
        .args(arguments)
        .status()
        .unwrap();
    assert!(done.success());
}

#[test]
fn a_dynamic_program_comes_with_its_loader_and_libraries() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("libs")).unwrap();
    compile(
        dir.path(),
        "int deep(void) { return 1; }",
        &["libs/libdeep.so", "-shared", "-fPIC", "x.c"],
    );
    compile(
        dir.path(),
        "int deep(void); int near(void) { return deep(); }",
        &[
            "libs/libnear.so",
            "-shared",
            "-fPIC",
            "x.c",
            "-Llibs",
            "-ldeep",
            "-Wl,-rpath,$ORIGIN",
        ],
    );
    compile(
        dir.path(),
        "int near(void); int main(void) { return near(); }",
        &[
            "program",
            "x.c",
            "-Llibs",
            "-lnear",
            "-Wl,-rpath,$ORIGIN/libs",
            "-Wl,-rpath-link,libs",
        ],
    );

    let files = [(dir.path().join("program"), PathBuf::from("/opt/p/program"))];
    let tree = unpack(&builtin(&Job::default(), None, &[], &files).unwrap());
    for path in [
        "opt/p/program",
        "opt/p/libs/libnear.so",
        "opt/p/libs/libdeep.so",
        "lib64/ld-linux-x86-64.so.2",
    ] {
        assert!(
            tree.contains_key(path),
            "{path} is not in {:?}",
            names(&tree)
        );
    }
    assert!(tree.keys().any(|path| path.ends_with("/libc.so.6")));

    fs::remove_file(dir.path().join("libs/libdeep.so")).unwrap();
    let error = builtin(&Job::default(), None, &[], &files).unwrap_err();
    let InitramfsError::MissingLibrary { library, needed_by } = error else {
        panic!("{error}");
    };
    assert_eq!(library, "libdeep.so");
    assert!(needed_by.ends_with("libs/libnear.so"));
}

#[test]
fn an_elf_file_cut_anywhere_is_an_answer_or_an_error() {
    let whole = fs::read("/proc/self/exe").unwrap();
    for end in (0..4096.min(whole.len())).chain([whole.len() / 2]) {
        let _ = elf::Program::read(Path::new("cut"), &whole[..end]);
    }
}
