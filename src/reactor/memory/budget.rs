//! What a process may take, as Linux tells it: limits of memory cgroups, of either version, and the
//! physical memory.

use std::path::{Path, PathBuf};

/// The least of all that bounds the process; `None` if nothing is known. `read` gives a file's text.
pub fn bytes(read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let limits = groups(&read).into_iter().flat_map(|group| {
        let (root, file) = (group.root.clone(), group.version.limit_file());
        // A group is bounded by those around it too.
        let around: Vec<_> = group
            .directory
            .ancestors()
            .take_while(|directory| directory.starts_with(&root))
            .map(|directory| directory.join(file))
            .collect();
        around.into_iter().filter_map(|path| read(&path)?.trim().parse::<u64>().ok())
    });
    limits.chain(physical_bytes(&read)).min()
}

/// Where it may be told how long tasks wait for memory: those of the process' own group, or all.
pub fn stall_files(read: impl Fn(&Path) -> Option<String>) -> Vec<PathBuf> {
    let groups = groups(&read).into_iter().filter(|group| group.version == Version::Two);
    let own = groups.map(|group| group.directory.join("memory.pressure"));
    own.chain([PathBuf::from("/proc/pressure/memory")]).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Version {
    fn limit_file(self) -> &'static str {
        match self {
            Self::One => "memory.limit_in_bytes",
            Self::Two => "memory.max",
        }
    }
}

/// A memory cgroup of the process, as it is seen from here.
struct Group {
    version: Version,
    /// Where the hierarchy is mounted.
    root: PathBuf,
    directory: PathBuf,
}

fn groups(read: &impl Fn(&Path) -> Option<String>) -> Vec<Group> {
    let own = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let mounts = read(Path::new("/proc/self/mountinfo")).unwrap_or_default();
    let mut groups = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let version = match controllers {
            "" => Version::Two,
            _ if controllers.split(',').any(|controller| controller == "memory") => Version::One,
            _ => continue,
        };
        groups.extend(mounts.lines().filter_map(|mount| group(version, path, mount)));
    }
    groups
}

/// The group at `path` of its hierarchy, if this is where that is mounted (proc_pid_mountinfo(5)).
fn group(version: Version, path: &str, mount: &str) -> Option<Group> {
    let (place, kind) = mount.split_once(" - ")?;
    let mut kind = kind.split(' ');
    let is_mounted = match (version, kind.next()?) {
        (Version::Two, "cgroup2") => true,
        (Version::One, "cgroup") => kind.nth(1)?.split(',').any(|option| option == "memory"),
        _ => false,
    };
    let mut place = place.split(' ').skip(3);
    let (within, root) = (place.next()?, PathBuf::from(place.next()?));
    // In a container a part of the hierarchy may be mounted, and the path told from its top.
    let inside = Path::new(path).strip_prefix(within).unwrap_or(Path::new(""));
    is_mounted.then(|| Group { version, directory: root.join(inside), root })
}

fn physical_bytes(read: &impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let text = read(Path::new("/proc/meminfo"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    type Files<'a> = BTreeMap<&'a Path, &'a str>;

    fn files<'a>(files: &[(&'a str, &'a str)]) -> Files<'a> {
        files.iter().map(|(path, text)| (Path::new(*path), *text)).collect()
    }

    fn bytes_of(list: &[(&str, &str)]) -> Option<u64> {
        let files = files(list);
        bytes(|path| files.get(path).map(|text| (*text).to_owned()))
    }

    const MEMORY: (&str, &str) = ("/proc/meminfo", "MemTotal:       8 kB\nMemFree: 1 kB\n");
    const TWO: (&str, &str) =
        ("/proc/self/mountinfo", "31 23 0:28 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw\n");

    #[test]
    fn without_groups_it_is_the_physical_memory() {
        assert_eq!(bytes_of(&[MEMORY]), Some(8192));
        assert_eq!(bytes_of(&[]), None);
        assert_eq!(bytes_of(&[("/proc/meminfo", "MemTotal: many kB\n")]), None);
        assert_eq!(bytes_of(&[("/proc/self/cgroup", "0::/x\n:\n0\n"), TWO, MEMORY]), Some(8192));
    }

    #[test]
    fn version_2_is_bounded_by_every_group_around() {
        let own = ("/proc/self/cgroup", "0::/a/b\n");
        let max = |path, text| (path, text);
        let (a, b) = ("/sys/fs/cgroup/a/memory.max", "/sys/fs/cgroup/a/b/memory.max");
        assert_eq!(bytes_of(&[own, TWO, MEMORY, max(b, "4096\n")]), Some(4096));
        assert_eq!(bytes_of(&[own, TWO, MEMORY, max(b, "max\n"), max(a, "1000\n")]), Some(1000));
        assert_eq!(bytes_of(&[own, TWO, MEMORY, max(b, "9999999\n")]), Some(8192), "no more");
        let outside = max("/sys/fs/memory.max", "1\n");
        assert_eq!(bytes_of(&[own, TWO, MEMORY, outside]), Some(8192), "no group stands there");
    }

    #[test]
    fn version_1_stands_where_its_controller_is_mounted() {
        let own = ("/proc/self/cgroup", "5:cpu:/x\n4:hugetlb,memory:/a\n0::/\n");
        let mounts = "\
            32 31 0:29 / /cg/cpu rw,relatime - cgroup cgroup rw,cpu\n\
            35 31 0:32 / /cg/memory rw,relatime - cgroup cgroup rw,hugetlb,memory\n\
            41 31 0:38 / /cg/unified rw,relatime - cgroup2 cgroup2 rw\n";
        let limits = [
            ("/cg/memory/a/memory.limit_in_bytes", "5000\n"),
            ("/cg/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("/cg/cpu/x/memory.limit_in_bytes", "1\n"),
        ];
        let mount = ("/proc/self/mountinfo", mounts);
        assert_eq!(bytes_of(&[&[own, mount, MEMORY], &limits[..]].concat()), Some(5000));
        assert_eq!(bytes_of(&[&[own, mount, MEMORY], &limits[1..]].concat()), Some(8192));
    }

    #[test]
    fn least_limit_up_the_tree_counts_and_what_is_no_number_is_passed_over() {
        let own = ("/proc/self/cgroup", "0::/a/b/c\n");
        let place = |group: &str| format!("/sys/fs/cgroup{group}/memory.max");
        let [top, a, b, c] = ["", "/a", "/a/b", "/a/b/c"].map(place);
        for (limits, budget) in [
            ([None, Some("3000\n"), Some("max\n"), Some("5000\n")], 3000),
            ([None, Some("5000\n"), Some("3000\n"), Some("max\n")], 3000),
            ([Some("2000\n"), None, None, None], 2000),
            ([None, Some("max"), None, Some("max\n")], 8192),
            ([None, Some(""), Some("\n"), Some("0x10\n")], 8192),
            ([None, Some("-1\n"), Some("12 34\n"), Some("99999999999999999999999\n")], 8192),
            ([None, None, Some("7000"), Some("1e3\n")], 7000),
        ] {
            let mut list = vec![own, TWO, MEMORY];
            for (path, limit) in [&top, &a, &b, &c].into_iter().zip(limits) {
                list.extend(limit.map(|limit| (path.as_str(), limit)));
            }
            assert_eq!(bytes_of(&list), Some(budget), "{limits:?}");
        }
    }

    #[test]
    fn what_proc_does_not_say_as_it_should_bounds_nothing() {
        let limit = ("/sys/fs/cgroup/memory.max", "4096\n");
        for own in
            ["", "\n", "0", "0:", "0::", "::", "0:memory", "x", "0::relative\n", "0::/../up\n"]
        {
            let own = ("/proc/self/cgroup", own);
            for mounts in ["", "-", " - ", "1 2 3", " - cgroup2", "1 2 3 / - cgroup2 x rw"] {
                let mounts = ("/proc/self/mountinfo", mounts);
                assert_eq!(
                    bytes_of(&[own, mounts, limit, MEMORY]),
                    Some(8192),
                    "{own:?} {mounts:?}"
                );
            }
            let budget = bytes_of(&[own, TWO, limit, MEMORY]);
            assert!(matches!(budget, Some(8192 | 4096)), "{own:?}: {budget:?}");
        }
    }

    #[test]
    fn in_a_container_the_path_is_told_from_the_top_of_all() {
        let own = ("/proc/self/cgroup", "0::/docker/abc/inner\n");
        let mount = ("/proc/self/mountinfo", "1 2 0:3 /docker/abc /cg ro - cgroup2 cgroup rw\n");
        let limit = ("/cg/inner/memory.max", "700\n");
        assert_eq!(bytes_of(&[own, mount, limit, MEMORY]), Some(700));
        // What does not lie in what is mounted is bounded by that as a whole.
        let elsewhere = ("/proc/self/cgroup", "0::/other\n");
        let limits = [limit, ("/cg/memory.max", "900\n")];
        assert_eq!(bytes_of(&[&[elsewhere, mount, MEMORY], &limits[..]].concat()), Some(900));
    }

    #[test]
    fn stalls_of_the_own_group_come_first() {
        let files = files(&[("/proc/self/cgroup", "4:memory:/v1\n0::/a\n"), TWO]);
        let paths = stall_files(|path| files.get(path).map(|text| (*text).to_owned()));
        let expected = ["/sys/fs/cgroup/a/memory.pressure", "/proc/pressure/memory"];
        assert!(paths.iter().map(PathBuf::as_path).eq(expected.map(Path::new)));
    }
}
