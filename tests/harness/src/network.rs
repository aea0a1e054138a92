//! A network of a test's own, with a loopback interface and nothing else, in which packets can be lost.

use std::process::Command;
use std::thread;

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// The network of the thread it is handed to. What runs on that thread, and what is started from it, is in there; the
/// machine's own is not touched.
#[derive(Debug)]
pub struct Network(());

/// Runs a test in a network of its own, on a thread of its own. Says so and does nothing where this machine does not allow
/// that: it takes root, and a kernel that can lose packets.
pub fn in_own_network<T: Future<Output = ()>>(test: impl FnOnce(Network) -> T + Send + 'static) {
    let thread = thread::spawn(|| {
        let network = match Network::make() {
            Ok(network) => network,
            Err(why) => {
                #[expect(clippy::print_stderr, reason = "who reads the tests' output is to see it")]
                {
                    eprintln!("SKIPPED, nothing was tested: {why}");
                }
                return;
            }
        };
        // Of one thread, as others are in another network.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(test(network));
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

impl Network {
    fn make() -> Result<Self, String> {
        #[allow(unsafe_code, reason = "unshare is unsafe only for tables of descriptors")]
        // SAFETY: UnshareFlags::FILES is not among them.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.map_err(|why| format!("no network of its own: {why}"))?;
        run(&["ip", "link", "set", "lo", "up"])?;
        // Seen now, not in the middle.
        let network = Self(());
        network.lose("--dport 1 -m statistic --mode random --probability 0.5")?;
        network.lose_nothing();
        Ok(network)
    }

    /// From here on each packet to and from this port is lost by this chance, of 100.
    pub fn lose_of_100(&self, port: u16, chance: u32) {
        for which in ["--dport", "--sport"] {
            let rule = format!("{which} {port} -m statistic --mode random --probability 0.{chance:02}");
            self.lose(&rule).expect("a rule");
        }
    }

    /// From here on every packet to and from this port is lost, as if its owner's machine were gone.
    pub fn lose_all(&self, port: u16) {
        for which in ["--dport", "--sport"] {
            self.lose(&format!("{which} {port}")).expect("a rule");
        }
    }

    /// Nothing is lost any more.
    pub fn lose_nothing(&self) {
        run(&["iptables", "-F", "INPUT"]).expect("no rules");
    }

    /// How many were lost under the present rules.
    pub fn lost(&self) -> u64 {
        let listed = run(&["iptables", "-nvxL", "INPUT"]).expect("the rules");
        let counts = listed.lines().filter(|line| line.contains("DROP"));
        counts
            .filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok())
            .sum()
    }

    fn lose(&self, rule: &str) -> Result<(), String> {
        let mut command = vec!["iptables", "-A", "INPUT", "-i", "lo", "-p", "tcp"];
        command.extend(rule.split(' '));
        command.extend(["-j", "DROP"]);
        run(&command).map(drop)
    }
}

fn run(command: &[&str]) -> Result<String, String> {
    let done = Command::new(command[0]).args(&command[1..]).output();
    let done = done.map_err(|why| format!("{command:?}: {why}"))?;
    match done.status.success() {
        true => Ok(String::from_utf8_lossy(&done.stdout).into_owned()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&done.stderr).trim())),
    }
}
