//! What the kernel says of this process, by the names that Prometheus' own client libraries give it.
//!
//! Read from /proc when somebody asks; what cannot be read is left out. `selkie up` is one process: its gateway and its control
//! plane tell the same, of all services in it.

use std::fs;
use std::path::Path;

/// Clock ticks per second in what /proc shows: Linux' USER_HZ, which is 100 on every architecture that mariadbd is built for
/// there. (What the kernel itself ticks at does not show.)
const TICKS_PER_SECOND: f64 = 100.0;

/// In Prometheus' text format.
pub fn text() -> String {
    let proc = Path::new("/proc/self");
    let stat = fs::read_to_string(proc.join("stat")).unwrap_or_default();
    let status = fs::read_to_string(proc.join("status")).unwrap_or_default();
    let limits = fs::read_to_string(proc.join("limits")).unwrap_or_default();
    let machine = fs::read_to_string("/proc/stat").unwrap_or_default();
    let started = ticks(&stat, STARTED).zip(boot_time(&machine));
    let mut text = String::new();
    for (name, kind, help, value) in [
        (
            "process_cpu_seconds_total",
            "counter",
            "Time on a CPU, in user and system mode",
            ticks(&stat, USER_TIME)
                .zip(ticks(&stat, SYSTEM_TIME))
                .map(|(user, system)| user + system),
        ),
        (
            "process_start_time_seconds",
            "gauge",
            "When it began, in seconds since 1970",
            started.map(|(after_boot, boot)| boot + after_boot),
        ),
        (
            "process_resident_memory_bytes",
            "gauge",
            "Memory that is in use",
            kib(&status, "VmRSS:").map(|kib| kib * 1024.0),
        ),
        (
            "process_virtual_memory_bytes",
            "gauge",
            "Address space",
            kib(&status, "VmSize:").map(|kib| kib * 1024.0),
        ),
        ("process_threads", "gauge", "Threads", kib(&status, "Threads:")),
        (
            "process_open_fds",
            "gauge",
            "File descriptors that are open",
            open_descriptors(proc),
        ),
        (
            "process_max_fds",
            "gauge",
            "File descriptors that may be open (ulimit -n)",
            max_descriptors(&limits),
        ),
    ] {
        if let Some(value) = value {
            text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"));
        }
    }
    text
}

/// Fields of /proc/self/stat, counted from the one behind the program's name: proc(5) numbers them from 1, and the name is 2.
const USER_TIME: usize = 14 - 3;
const SYSTEM_TIME: usize = 15 - 3;
const STARTED: usize = 22 - 3;

/// In seconds.
fn ticks(stat: &str, field: usize) -> Option<f64> {
    // The name may hold anything, parentheses included.
    let (_, behind_name) = stat.rsplit_once(')')?;
    let ticks: f64 = behind_name.split_ascii_whitespace().nth(field)?.parse().ok()?;
    Some(ticks / TICKS_PER_SECOND)
}

/// Of /proc/stat, in seconds since 1970.
fn boot_time(machine: &str) -> Option<f64> {
    machine
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()
}

/// A number of /proc/self/status; memory is in KiB there.
fn kib(status: &str, name: &str) -> Option<f64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    value.split_ascii_whitespace().next()?.parse().ok()
}

fn open_descriptors(proc: &Path) -> Option<f64> {
    let fds = proc.join("fd");
    // Since Linux 6.2 the directory's size says how many there are; before, they have to be counted.
    match fs::metadata(&fds).ok()?.len() {
        // The one that is open for counting does not count.
        0 => Some(fs::read_dir(fds).ok()?.count().saturating_sub(1) as f64),
        open => Some(open as f64),
    }
}

/// The soft limit, which is the one that is met; None where there is none.
fn max_descriptors(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn value(text: &str, name: &str) -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().parse().unwrap()
    }

    #[test]
    fn each_is_there_and_can_be_true() {
        let before = text();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let age = now.as_secs_f64() - value(&before, "process_start_time_seconds ");
        // Boot time and start are whole seconds and hundredths; a clock that is set while the machine runs moves both.
        assert!((-2.0..86_400.0).contains(&age), "{age}");
        let files: Vec<_> = (0..100).map(|_| fs::File::open("/proc/self/stat").unwrap()).collect();
        let mut sum = 0_u64;
        while value(&text(), "process_cpu_seconds_total ") <= value(&before, "process_cpu_seconds_total ") {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let after = text();
        // Other tests of this process open and close some meanwhile.
        let opened = value(&after, "process_open_fds ") - value(&before, "process_open_fds ");
        assert!(opened > 50.0, "{opened}");
        assert!(value(&after, "process_max_fds ") >= value(&after, "process_open_fds "));
        let (resident, address_space) = (
            value(&after, "process_resident_memory_bytes "),
            value(&after, "process_virtual_memory_bytes "),
        );
        assert!(
            resident > 1e6 && address_space > resident,
            "{resident} of {address_space}"
        );
        assert!(value(&after, "process_threads ") >= 2.0);
        drop(files);
    }

    #[test]
    fn a_programs_name_may_hold_anything() {
        let stat = "7 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 1100 250 0 0 20 0 4 0 4200 0";
        let seconds = [USER_TIME, SYSTEM_TIME, STARTED].map(|field| ticks(stat, field).unwrap());
        assert_eq!(seconds, [11.0, 2.5, 42.0]);
    }

    #[test]
    fn what_has_no_limit_has_no_number() {
        assert_eq!(
            max_descriptors("Max open files            1024                 4096                 files"),
            Some(1024.0)
        );
        assert_eq!(
            max_descriptors("Max open files            unlimited            unlimited            files"),
            None
        );
    }
}
