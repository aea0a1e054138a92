//! Sessions against a scripted control and a scripted compute: what a client sees when the other side sleeps, suspends,
//! breaks or refuses.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use control_api::control as proto;
use mysql_wire::capabilities::Capabilities;
use support::client::{BASE, Client, err};
use support::compute::{ALL, FakeCompute};
use support::metrics::{eventually, value};
use support::{World, project, ready};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// Only against hanging.
const GUARD: Duration = Duration::from_secs(30);

struct Scene {
    world: World,
    compute: FakeCompute,
    _dir: tempfile::TempDir,
}

async fn scene() -> Scene {
    let dir = tempfile::tempdir().unwrap();
    let compute = FakeCompute::start(dir.path(), "c", ALL);
    let world = World::start([project("demo")]).await;
    world
        .script
        .wakes
        .lock()
        .unwrap()
        .insert("demo".into(), Ok(ready(1, &compute.socket)));
    Scene {
        world,
        compute,
        _dir: dir,
    }
}

impl Scene {
    async fn client(&self, capabilities: Capabilities) -> Client {
        Client::log_in(self.world.mysql, "demo.u", "p", BASE | capabilities)
            .await
            .unwrap()
    }

    fn wakes(&self) -> usize {
        self.world.script.asked.lock().unwrap().len()
    }

    /// What the next wakes of a project answer.
    fn script(&self, project: &str, answer: Result<proto::Compute, String>) {
        self.world.script.wakes.lock().unwrap().insert(project.into(), answer);
    }

    async fn publish(&self, compute: proto::Compute) {
        self.world
            .script
            .publish(proto::Project {
                compute: Some(compute),
                ..project("demo")
            })
            .await;
    }
}

#[tokio::test]
async fn logins_and_what_drivers_send_wake_nothing() {
    let scene = scene().await;
    let mut client = scene.client(Capabilities::EMPTY).await;
    client.ask("SET NAMES utf8mb4").await.unwrap();
    client.ask("SET autocommit=0").await.unwrap();
    for command in [0x0e, 0x1f] {
        client.send(0, &[command]).await;
        assert_eq!(client.read().await.unwrap().1[0], 0);
    }
    client.send(0, &[0x09]).await;
    assert!(client.read().await.unwrap().1.starts_with(b"Uptime: "));
    client.query("SELECT @@version_comment LIMIT 1").await;
    for _ in 0..5 {
        client.read().await.unwrap();
    }
    client.send(0, &[0x77]).await;
    assert_eq!(err(&client.read().await.unwrap().1), "1047 08S01 Unknown command");
    client.send(0, &[]).await;
    assert_eq!(err(&client.read().await.unwrap().1), "1047 08S01 Unknown command");
    assert_eq!(scene.wakes(), 0);
    assert_eq!(scene.compute.seen.lock().unwrap().logins, 0);
}

#[tokio::test]
async fn settings_are_replayed_before_the_first_command_and_their_answers_hidden() {
    let scene = scene().await;
    let mut client = scene.client(Capabilities::EMPTY).await;
    client.ask("SET NAMES latin1").await.unwrap();
    client.ask("SET autocommit=0").await.unwrap();
    client.ask("INSERT").await.unwrap();
    client.ask("INSERT again").await.unwrap();
    let seen = scene.compute.seen.lock().unwrap();
    assert_eq!(
        seen.clients_queries(),
        ["SET NAMES latin1", "SET autocommit=0", "INSERT", "INSERT again"]
    );
    drop(seen);
    assert_eq!(scene.wakes(), 1);
}

#[tokio::test]
async fn pipelined_commands_are_kept_while_waking_and_answered_in_order() {
    let scene = scene().await;
    let mut client = scene.client(Capabilities::EMPTY).await;
    let mut all = Vec::new();
    for text in ["ONE", "SELECT fail", "TWO"] {
        mysql_wire::frame::write_packet(&mut all, &mut 0, &[&[3], text.as_bytes()].concat());
    }
    client.stream.write_all(&all).await.unwrap();
    let first_bytes = [
        client.read().await.unwrap(),
        client.read().await.unwrap(),
        client.read().await.unwrap(),
    ];
    assert_eq!(
        first_bytes.map(|(sequence, payload)| (sequence, payload[0])),
        [(1, 0), (1, 0xff), (1, 0)]
    );
}

#[tokio::test]
async fn many_clients_wake_once() {
    let scene = scene().await;
    let clients = (0..50).map(|_| async {
        let mut client = scene.client(Capabilities::EMPTY).await;
        client.ask("DO 1").await.unwrap();
        client
    });
    let clients = futures::future::join_all(clients).await;
    assert_eq!(clients.len(), 50);
    assert!(scene.wakes() <= 2, "a wake for a late-comer at most: {}", scene.wakes());
}

#[tokio::test]
async fn a_refused_wake_is_told_with_its_reason() {
    let scene = scene().await;
    let refusal = Err("mariadbd is not installed".to_owned());
    scene.script("demo", refusal);
    let mut client = scene.client(Capabilities::EMPTY).await;
    let error = client.ask("DO 1").await.unwrap_err();
    assert!(
        error.starts_with("1053 08S01") && error.contains("mariadbd is not installed"),
        "{error}"
    );
}

#[tokio::test]
async fn a_client_that_leaves_while_waking_drops_the_wake() {
    let scene = scene().await;
    scene.world.script.wakes.lock().unwrap().clear();
    let mut client = scene.client(Capabilities::EMPTY).await;
    client.query("DO 1").await;
    let asked = async {
        while scene.wakes() == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(GUARD, asked).await.unwrap();
    drop(client);
    timeout(GUARD, scene.world.script.given_up.notified()).await.unwrap();
    // The next client's wake is a new question.
    scene.script("demo", Ok(ready(1, &scene.compute.socket)));
    let mut next = scene.client(Capabilities::EMPTY).await;
    timeout(GUARD, next.ask("DO 2")).await.unwrap().unwrap();
    assert_eq!(
        scene.compute.seen.lock().unwrap().clients_queries(),
        ["DO 2"],
        "the first client's command was not run"
    );
}

fn drained(round: u32, forced: bool) -> proto::Compute {
    proto::Compute {
        state: proto::ComputeState::Draining.into(),
        incarnation: 1,
        round,
        forced,
        reason: "the compute is being suspended".into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_suspend_parks_attached_clients_which_go_on_at_the_next_incarnation() {
    let scene = scene().await;
    let mut attached = scene.client(Capabilities::EMPTY).await;
    attached.ask("DO 1").await.unwrap();
    scene.publish(drained(0, false)).await;
    let answer = timeout(GUARD, scene.world.script.drained()).await.unwrap();
    assert_eq!((answer.incarnation, answer.refused.as_str()), (1, ""));
    scene.script("demo", Ok(ready(2, &scene.compute.socket)));
    timeout(GUARD, attached.ask("DO 2")).await.unwrap().unwrap();
    let seen = scene.compute.seen.lock().unwrap();
    assert_eq!((seen.logins, seen.clients_queries()), (2, vec!["DO 1", "DO 2"]));
    let restored = seen
        .queries
        .iter()
        .find(|text| text.starts_with("SET character_set_client='utf8mb4'"));
    assert!(restored.is_some(), "{:?}", seen.queries);
}

#[tokio::test]
async fn a_suspend_meets_no_command_in_flight() {
    let scene = scene().await;
    let mut busy = scene.client(Capabilities::EMPTY).await;
    busy.ask("DO 1").await.unwrap();
    busy.query("HANG").await;
    let began = async {
        while !scene
            .compute
            .seen
            .lock()
            .unwrap()
            .queries
            .iter()
            .any(|text| text == "HANG")
        {
            tokio::task::yield_now().await;
        }
    };
    timeout(GUARD, began).await.unwrap();
    scene.publish(drained(0, false)).await;
    let answer = timeout(GUARD, scene.world.script.drained()).await.unwrap();
    assert_eq!(answer.refused, "a command is in flight");
}

#[tokio::test]
async fn a_drain_that_is_called_off_leaves_sessions_where_they_are() {
    let scene = scene().await;
    let mut busy = scene.client(Capabilities::EMPTY).await;
    busy.ask("DO 1").await.unwrap();
    scene.publish(drained(0, false)).await;
    timeout(GUARD, scene.world.script.drained()).await.unwrap();
    let again = proto::Compute {
        round: 1,
        ..ready(1, &scene.compute.socket)
    };
    scene.publish(again).await;
    timeout(GUARD, busy.ask("DO 2")).await.unwrap().unwrap();
    // And the next drain is answered anew.
    scene.publish(drained(1, false)).await;
    let answer = timeout(GUARD, scene.world.script.drained()).await.unwrap();
    assert_eq!((answer.round, answer.refused.as_str()), (1, ""));
}

#[tokio::test]
async fn a_compute_that_dies_is_told_where_a_packet_may_stand() {
    let scene = scene().await;
    let mut between = scene.client(Capabilities::EMPTY).await;
    let error = between.ask("BREAK").await.unwrap_err();
    assert!(error.starts_with("1053 08S01"), "{error}");
    // In the middle of a packet nothing can be said: what was sent arrives, then the end.
    let mut inside = scene.client(Capabilities::EMPTY).await;
    inside.query("BREAK inside").await;
    let mut rest = Vec::new();
    timeout(GUARD, inside.stream.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(rest, [1, 0, 0, 1, 1, 50, 0, 0, 2, 3]);
    // And nobody else notices.
    let mut other = scene.client(Capabilities::EMPTY).await;
    other.ask("DO 1").await.unwrap();
}

#[tokio::test]
async fn release_ends_the_connection_even_when_the_next_command_is_on_its_way() {
    let scene = scene().await;
    let mut client = scene.client(Capabilities::EMPTY).await;
    client.ask("COMMIT RELEASE").await.unwrap();
    client.query("INSERT").await;
    let answer = timeout(GUARD, client.read()).await.unwrap();
    assert!(answer.is_err(), "{answer:?}");
    assert_eq!(scene.compute.seen.lock().unwrap().logins, 1);
}

#[tokio::test]
async fn an_unreachable_compute_is_reported_and_the_next_one_dialled() {
    let dir = tempfile::tempdir().unwrap();
    let dead = FakeCompute::start(dir.path(), "dead", ALL);
    let alive = FakeCompute::start(dir.path(), "alive", ALL);
    let woken = proto::Project {
        compute: Some(ready(1, &dead.socket)),
        ..project("demo")
    };
    dead.kill();
    let world = World::start([woken]).await;
    world
        .script
        .wakes
        .lock()
        .unwrap()
        .insert("demo".into(), Ok(ready(2, &alive.socket)));
    let mut client = Client::log_in(world.mysql, "demo.u", "p", BASE).await.unwrap();
    timeout(GUARD, client.ask("DO 1")).await.unwrap().unwrap();
    assert_eq!(world.script.asked.lock().unwrap()[0].unreachable_incarnation, 1);
}

#[tokio::test]
async fn refusals_are_the_same_for_unknown_project_unknown_user_and_wrong_password() {
    let scene = scene().await;
    let mut texts = Vec::new();
    for (name, password) in [("demo.u", "wrong"), ("demo.x", "p"), ("nosuch.u", "p"), ("u", "p")] {
        let Err(error) = Client::log_in(scene.world.mysql, name, password, BASE).await else {
            panic!("{name} got in")
        };
        texts.push(error.replace(&format!("'{name}'"), "'NAME'"));
    }
    assert_eq!(
        texts[0],
        "1045 28000 Access denied for user 'NAME'@'127.0.0.1' (using password: YES)"
    );
    assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
    assert_eq!(scene.wakes(), 0);
}

#[tokio::test]
async fn change_user_ends_at_the_gateway_and_detaches() {
    let scene = scene().await;
    let mut client = scene.client(Capabilities::PLUGIN_AUTH).await;
    client.ask("DO 1").await.unwrap();
    for (password, expected) in [("wrong", 0xff), ("p", 0)] {
        let change = mysql_wire::login::ChangeUser {
            user: b"u",
            auth_response: b"",
            database: Some(b"demo"),
            collation: Some(45),
            auth_plugin: Some(b"mysql_native_password"),
            raw_attributes: b"",
        };
        let packet = change.encode(client.capabilities);
        client.send(0, &packet).await;
        let (sequence, switch) = client.read().await.unwrap();
        assert_eq!(switch[0], 0xfe);
        let nonce: [u8; 20] = switch[switch.len() - 21..switch.len() - 1].try_into().unwrap();
        assert_eq!(nonce, client.greeting.nonce, "Connector/C answers with that one");
        client
            .send(
                sequence + 1,
                &support::client::native_answer(password.as_bytes(), &nonce),
            )
            .await;
        let (_, reply) = timeout(GUARD, client.read()).await.unwrap().unwrap();
        assert_eq!(reply[0], expected, "{}", err(&reply));
    }
    client.ask("DO 2").await.unwrap();
    let seen = scene.compute.seen.lock().unwrap();
    assert_eq!(seen.logins, 2, "a compute connection of its own for each stretch");
    assert!(!seen.commands.contains(&0x11), "no compute hears of it");
}

#[tokio::test]
async fn a_removed_project_lets_nobody_in_and_ends_its_sessions() {
    let scene = scene().await;
    let mut attached = scene.client(Capabilities::EMPTY).await;
    attached.ask("DO 1").await.unwrap();
    scene.world.script.remove("demo").await;
    let gone = async { while Client::log_in(scene.world.mysql, "demo.u", "p", BASE).await.is_ok() {} };
    timeout(GUARD, gone).await.unwrap();
    // A command that crosses the news is still answered.
    let ended = async {
        loop {
            if let Err(error) = attached.ask("DO 2").await {
                return error;
            }
        }
    };
    let error = timeout(GUARD, ended).await.unwrap();
    assert!(error.contains("deleted"), "{error}");
}

#[tokio::test]
async fn drain_tells_idle_clients_and_waits_for_commands() {
    let scene = scene().await;
    let mut idle = scene.client(Capabilities::EMPTY).await;
    let mut attached = scene.client(Capabilities::EMPTY).await;
    attached.ask("DO 1").await.unwrap();
    scene.world.stop();
    for client in [&mut idle, &mut attached] {
        let (_, payload) = timeout(GUARD, client.read()).await.unwrap().unwrap();
        assert_eq!(err(&payload), "1053 08S01 Server shutdown in progress");
    }
}

/// The gateway keeps something of each, and its tenant can have the server keep more than it would by itself.
#[tokio::test]
async fn a_session_prepares_so_many_statements_and_no_more_until_it_closes_one() {
    let scene = scene().await;
    let mut client = scene.client(Capabilities::EMPTY).await;
    let max: u32 = 16_382;
    let prepare = [5, 0, 0, 0, 0x16, b'D', b'O', b' ', b'1'];
    let mut last = Vec::new();
    for _ in 0..=max / 100 {
        client.stream.write_all(&prepare.repeat(100)).await.unwrap();
        for _ in 0..100 {
            let (_, answer) = timeout(GUARD, client.read()).await.unwrap().unwrap();
            last.push(answer);
        }
    }
    let refused = last.split_off(max as usize);
    assert!(last.iter().all(|answer| answer[0] == 0) && !refused.is_empty());
    for answer in refused {
        let text = "1461 42000 Can't create more than max_prepared_stmt_count statements (current value: 16382)";
        assert_eq!(err(&answer), text);
    }
    // What drivers send at once: the statement that was prepared last is the refused one, not the one before it.
    let execute = [10, 0, 0, 0, 0x17, 0xff, 0xff, 0xff, 0xff, 0, 1, 0, 0, 0];
    client
        .stream
        .write_all(&[&prepare[..], &execute].concat())
        .await
        .unwrap();
    let mut told = Vec::new();
    for _ in 0..2 {
        let (_, answer) = timeout(GUARD, client.read()).await.unwrap().unwrap();
        told.push(err(&answer));
    }
    assert!(told[0].starts_with("1461 "), "{told:?}");
    let unknown = "1243 HY000 Unknown prepared statement handler (4294967295) given to mysqld_stmt_execute";
    assert_eq!(told[1], unknown);
    client.send(0, &[&[0x19][..], &max.to_le_bytes()].concat()).await;
    client.stream.write_all(&prepare).await.unwrap();
    assert_eq!(timeout(GUARD, client.read()).await.unwrap().unwrap().1[0], 0);
}

#[tokio::test]
async fn a_session_that_holds_more_than_can_be_read_stays_at_its_compute() {
    let dir = tempfile::tempdir().unwrap();
    let compute = FakeCompute::start(dir.path(), "c", ALL);
    let world = World::start_with([project("demo")], |raw| raw.park_after = "50ms".into()).await;
    let answer = Ok(ready(1, &compute.socket));
    world.script.wakes.lock().unwrap().insert("demo".into(), answer);
    let mut client = Client::log_in(world.mysql, "demo.u", "p", BASE).await.unwrap();
    // 1.4 MB of user variables.
    client.ask("SET @v0 = much").await.unwrap();
    let tied = "selkie_gateway_pins_total{reason=\"unknown\"}";
    eventually("it is tied", async || (value(&world, tied).await == 1.0).then_some(())).await;
    // There it would be told of the gateway's own questions.
    client.query("SELECT ROW_COUNT()").await;
    let mut packets = Vec::new();
    // The count of columns, one definition, an EOF, a row, an EOF.
    for _ in 0..5 {
        packets.push(timeout(GUARD, client.read()).await.unwrap().unwrap().1);
    }
    assert_eq!(packets[3], b"\x010");
    client.ask("DO 1").await.unwrap();
    let seen = compute.seen.lock().unwrap();
    assert!(!seen.queries.iter().any(|text| text == "SELECT ROW_COUNT()"));
    assert_eq!(seen.logins, 1);
}

#[tokio::test]
async fn a_file_is_asked_for_of_those_clients_only_who_have_offered_to_send_some() {
    let scene = scene().await;
    let mut offers = scene.client(Capabilities::LOCAL_FILES).await;
    offers.query("LOAD").await;
    let (_, asked) = timeout(GUARD, offers.read()).await.unwrap().unwrap();
    assert_eq!(asked, b"\xfb/etc/passwd");
    let mut does_not = scene.client(Capabilities::EMPTY).await;
    does_not.query("LOAD").await;
    // In the middle of an answer, nothing can be said.
    let told = timeout(GUARD, does_not.read()).await.unwrap();
    assert!(told.is_err(), "{told:?}");
}
