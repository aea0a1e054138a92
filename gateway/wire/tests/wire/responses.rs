use std::collections::BTreeMap;

use mysql_wire::capabilities::Capabilities;
use mysql_wire::response::{End, ResponseEvent};

use crate::recordings::{self, Recording};
use crate::streams::{Noted, scan_responses};

#[test]
fn every_recorded_response_ends_with_its_last_byte() {
    for recording in recordings::responses() {
        let noted = whole(&recording);
        let Recording { name, capabilities, .. } = recording;
        assert!(!noted.refused, "{name} {capabilities:?}: {noted:?}");
        let last = noted.events.last();
        assert!(
            matches!(last, Some((at, ResponseEvent::End(_))) if *at == recording.bytes.len()),
            "{name} {capabilities:?}: {noted:?}"
        );
    }
}

/// One line for each request, and one more for each set of capabilities under which it is answered otherwise.
#[test]
fn what_the_recorded_responses_end_with() {
    let mut seen: BTreeMap<(&str, String), Vec<String>> = BTreeMap::new();
    for recording in recordings::responses() {
        let events = whole(&recording)
            .events
            .into_iter()
            .map(|(_, event)| told(event))
            .collect::<Vec<_>>();
        let key = (recording.name, events.join(", "));
        seen.entry(key).or_default().push(flags(recording.capabilities));
    }
    let lines = seen.iter().map(|((name, events), under)| match under.len() {
        // All there are.
        8 => format!("{name}: {events}\n"),
        _ => format!("{name}: {events} (under {})\n", under.join(", ")),
    });
    insta::assert_snapshot!(lines.collect::<String>());
}

fn whole(recording: &Recording) -> Noted<ResponseEvent> {
    scan_responses(
        recording.capabilities,
        &[recording.expect],
        &recording.bytes,
        &[usize::MAX],
    )
}

fn told(event: ResponseEvent) -> String {
    match event {
        ResponseEvent::FileWanted => "file wanted".into(),
        ResponseEvent::Marked { mark, .. } => format!("{mark:?}"),
        ResponseEvent::End(End { error: Some(code), .. }) => format!("error {code}"),
        ResponseEvent::End(End {
            status: Some(status), ..
        }) => format!("status {:#06x}", status.0),
        ResponseEvent::End(_) => "end".into(),
    }
}

fn flags(capabilities: Capabilities) -> String {
    let named = [
        (Capabilities::DEPRECATE_EOF, "DEPRECATE_EOF"),
        (Capabilities::MARIADB_CACHE_METADATA, "CACHE_METADATA"),
        (Capabilities::SESSION_TRACK, "SESSION_TRACK"),
        (Capabilities::MARIADB_PROGRESS, "PROGRESS"),
    ];
    let set = named.iter().filter(|(flag, _)| capabilities.contains(*flag));
    match set.map(|(_, name)| *name).collect::<Vec<_>>() {
        set if set.is_empty() => "none".into(),
        set => set.join("+"),
    }
}
