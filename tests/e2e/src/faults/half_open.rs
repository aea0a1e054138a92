//! Clients whose machine is gone without a word: their places are given back once the kernel has asked in vain.

use std::time::Duration;

use harness::network::in_own_network;
use harness::{Raw, Selkie, eventually};
use tokio::time::{Instant, sleep};

/// 60 s of silence, then four questions, each 15 s before the next, and the last one's time.
const GONE_AFTER: Duration = Duration::from_secs(60 + 4 * 15);
/// The kernel's timers are coarse, and the machine may be busy.
const SLACK: Duration = Duration::from_secs(20);

/// Whether the peers of a port have acknowledged all that was sent to them.
fn is_acknowledged(port: u16) -> bool {
    let of_this_network = std::fs::read_to_string("/proc/thread-self/net/tcp").expect("what the kernel says of TCP");
    let own = format!(":{port:04X}");
    let mut sockets = of_this_network
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    sockets.all(|fields| !fields[1].ends_with(&own) || fields[4].starts_with("00000000:") || fields[3] == "0A")
}

/// Waits for two minutes, for the kernel does: `cargo test -p e2e half_open -- --ignored --nocapture` prints when.
#[test]
#[ignore = "takes more than two minutes"]
fn clients_gone_without_a_word_are_noticed_by_keepalive_whatever_they_were_at() {
    in_own_network(async |network| {
        let selkie = Selkie::start().await;
        let project = selkie.project("gone").await;
        let mut watches = Raw::login(&project.endpoint).await;
        watches.query("CREATE TABLE t (a INT)").await.ok();
        let mut idle = Raw::login(&project.endpoint).await;
        idle.query("SET @a = 1").await.ok();
        let mut open = Raw::login(&project.endpoint).await;
        open.query("BEGIN").await.ok();
        open.query("INSERT INTO t VALUES (1)").await.ok();
        let mut waits = Raw::login(&project.endpoint).await;
        waits.command(0x03, b"SELECT SLEEP(1000)").await;
        let runs = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP%'";
        eventually("it runs", async || {
            (watches.query(runs).await.ok().text() == "1").then_some(())
        })
        .await;

        // While something of the gateway's is not acknowledged the kernel sends it again instead of asking, for a quarter of an hour.
        eventually("all that was sent has arrived", async || {
            is_acknowledged(selkie.up().mysql.port).then_some(())
        })
        .await;
        let began = Instant::now();
        for port in [idle.local_port, open.local_port, waits.local_port] {
            network.lose_all(port);
        }
        let mut left = 4.0;
        while left > 1.0 {
            assert!(
                began.elapsed() < GONE_AFTER + SLACK,
                "{left} clients after {:?}",
                began.elapsed()
            );
            sleep(Duration::from_secs(1)).await;
            // Whoever asks is there, too, and its login is over.
            let now = selkie.metric("selkie_gateway_clients").await;
            if now < left {
                println!("{now} clients after {:?}", began.elapsed());
                left = now;
            }
            watches.query("DO 1").await.ok();
        }
        assert!(
            began.elapsed() > GONE_AFTER - SLACK,
            "sooner than is set: {:?}",
            began.elapsed()
        );
        eventually("what they had at the database has ended", async || {
            let others = "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'app'";
            (watches.query(others).await.ok().text() == "1").then_some(())
        })
        .await;
        println!("nothing of theirs at the database after {:?}", began.elapsed());
        assert_eq!(watches.query("SELECT COUNT(*) FROM t").await.ok().text(), "0");
        drop((idle, open, waits, watches));
        selkie.logs.check();
    });
}
