//! An apt of three shell scripts that serves one kernel and keeps what it was told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const IMAGE: &str = "linux-image-9.9.9-1-amd64";

const CONFIG: &str = r#"
case $1 in
shell) echo "LIST='@/sources.list'" ;;
dump) echo 'Acquire::http::Proxy "proxy:3142";'; echo 'APT::Update::Post-Invoke:: "rm -r /";' ;;
esac
"#;

const CACHE: &str = r#"
while [ $# -gt 0 ]; do [ -f "@/records/$1" ] && cat "@/records/$1"; shift; done
exit 0
"#;

/// Keeps the configuration and the sources it is run with; `download` leaves its mark first.
const GET: &str = r#"
cp "$APT_CONFIG" @/seen.conf
cp "$(sed -n 's/^Dir::Etc::sourceparts "\(.*\)";/\1/p' "$APT_CONFIG")"/*.sources @/seen.sources
case "$*" in *download*) ;; *) exit 0 ;; esac
echo x >> @/downloads
[ -e @/stall ] && exec sleep 60
[ -e @/fail ] && { echo "E: Hash Sum mismatch" >&2; exit 100; }
cp @/package.deb "./linux-image-9.9.9-1-amd64_9.9.9-1_amd64.deb"
"#;

pub(crate) struct FakeApt {
    dir: tempfile::TempDir,
}

impl FakeApt {
    /// Serves a kernel behind the meta package `meta`.
    pub(crate) fn new(meta: &str) -> Self {
        let apt = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        for (name, text) in [
            ("apt-config", CONFIG),
            ("apt-cache", CACHE),
            ("apt-get", GET),
        ] {
            apt.script(name, text);
        }
        // "stable" is the machine's own suite on whatever distribution this runs.
        apt.write(
            "sources.list",
            "deb [signed-by=/key.gpg] http://mirror/debian stable main\ndeb http://third-party/x tools main\n",
        );
        apt.record(meta, &format!("Depends: {IMAGE} (= 9.9.9-1)\n"));
        apt.record(IMAGE, "Depends: kmod, linux-base\n");
        apt.write_package();
        apt
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A search path with this apt and the tools its scripts use.
    pub(crate) fn path(&self) -> String {
        format!("{}:/usr/bin:/bin", self.dir().join("bin").display())
    }

    /// How many downloads have begun.
    pub(crate) fn downloads(&self) -> usize {
        let marks = fs::read_to_string(self.dir().join("downloads"));
        marks.map_or(0, |text| text.lines().count())
    }

    pub(crate) fn stall_downloads(&self, on: bool) {
        let file = self.dir().join("stall");
        if on {
            fs::write(file, "").unwrap();
        } else {
            fs::remove_file(file).unwrap();
        }
    }

    pub(crate) fn fail_downloads(&self) {
        self.write("fail", "");
    }

    pub(crate) fn seen_config(&self) -> String {
        fs::read_to_string(self.dir().join("seen.conf")).unwrap()
    }

    pub(crate) fn seen_sources(&self) -> String {
        fs::read_to_string(self.dir().join("seen.sources")).unwrap()
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn script(&self, name: &str, text: &str) {
        let text = text.replace('@', self.dir().to_str().unwrap());
        let path = self.write(&format!("bin/{name}"), &format!("#!/bin/sh\n{text}"));
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn record(&self, package: &str, fields: &str) {
        let text = format!("Package: {package}\nVersion: 9.9.9-1\n{fields}\n");
        self.write(&format!("records/{package}"), &text);
    }

    fn write_package(&self) {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, text) in [
            ("./boot/vmlinuz-9.9.9-1-amd64", "not a kernel, but a file"),
            ("./boot/config-9.9.9-1-amd64", "CONFIG_VMAP_STACK=y\n"),
            ("./lib/modules/9.9.9-1-amd64/kernel/a.ko", ""),
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        let data = liblzma::encode_all(&tar.into_inner().unwrap()[..], 1).unwrap();
        let mut deb = ar::Builder::new(fs::File::create(self.dir().join("package.deb")).unwrap());
        for (name, bytes) in [("debian-binary", &b"2.0\n"[..]), ("data.tar.xz", &data)] {
            let header = ar::Header::new(name.as_bytes().to_vec(), bytes.len() as u64);
            deb.append(&header, bytes).unwrap();
        }
    }
}
