//! Where a stream is cut changes nothing.

use mysql_wire::capabilities::Capabilities;
use mysql_wire::column::{ColumnDefinition, text_result_set, text_row};
use mysql_wire::err::err_frame;
use mysql_wire::frame::{FRAME_PAYLOAD_MAX, write_packet};
use mysql_wire::ok::{OkPacket, eof_frame};
use mysql_wire::response::{End, Expect, ResponseEvent};
use mysql_wire::status::StatusFlags;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::recordings;
use crate::streams::{ClientEvent, scan_commands, scan_responses};

const WHOLE: &[usize] = &[usize::MAX];

#[test]
fn every_recorded_response_may_be_cut_at_every_byte() {
    for recording in recordings::responses()
        .into_iter()
        .filter(|recording| recording.bytes.len() < 2_000)
    {
        let scan =
            |lengths: &[usize]| scan_responses(recording.capabilities, &[recording.expect], &recording.bytes, lengths);
        let whole = scan(WHOLE);
        assert_eq!(scan(&[1]), whole, "{} byte by byte", recording.name);
        for cut in 1..recording.bytes.len() {
            assert_eq!(scan(&[cut, usize::MAX]), whole, "{} cut at {cut}", recording.name);
        }
    }
}

/// One result of a response.
#[derive(Debug, Clone)]
enum Part {
    Ok {
        status: StatusFlags,
        insert_id: u64,
        warnings: u16,
    },
    Rows {
        columns: usize,
        rows: Vec<Vec<Option<Vec<u8>>>>,
    },
    Progress,
}

fn part() -> impl Strategy<Value = Part> {
    // What a value begins with is what a scanner might take for a header.
    let value = prop_oneof![
        vec(any::<u8>(), 0..24),
        Just(vec![0xfe; 3]),
        Just(vec![0xff; 9]),
        Just(vec![0; 12]),
        vec(any::<u8>(), 250..300),
    ];
    let rows = (1..4_usize).prop_flat_map(move |columns| {
        let row = vec(proptest::option::of(value.clone()), columns);
        (Just(columns), vec(row, 0..6))
    });
    prop_oneof![
        (0..4_u16, prop_oneof![Just(0), any::<u64>()], 0..3_u16).prop_map(|(bits, insert_id, warnings)| Part::Ok {
            status: StatusFlags(bits),
            insert_id,
            warnings,
        }),
        rows.prop_map(|(columns, rows)| Part::Rows { columns, rows }),
        Just(Part::Progress),
    ]
}

fn capabilities() -> impl Strategy<Value = Capabilities> {
    let optional = [
        Capabilities::DEPRECATE_EOF,
        Capabilities::MARIADB_CACHE_METADATA,
        Capabilities::MARIADB_EXTENDED_METADATA,
        Capabilities::SESSION_TRACK,
    ];
    proptest::sample::subsequence(optional.to_vec(), 0..=optional.len()).prop_map(|chosen| {
        chosen
            .into_iter()
            .fold(Capabilities::PROTOCOL_41, |all, flag| all | flag)
    })
}

/// A response of these parts, and what it must end with.
fn response(parts: &[Part], error: Option<u16>, capabilities: Capabilities) -> (Vec<u8>, End) {
    let mut out = Vec::new();
    let last_result = parts.iter().rposition(|part| !matches!(part, Part::Progress));
    let mut end = End::default();
    for (at, part) in parts.iter().enumerate() {
        let more = match error.is_some() || Some(at) != last_result {
            true => StatusFlags::MORE_RESULTS,
            false => StatusFlags::EMPTY,
        };
        match part {
            // Nothing comes between the last result and its end.
            Part::Progress if last_result.is_none_or(|last| at > last) && error.is_none() => {}
            Part::Progress => write_packet(&mut out, &mut 1, &[0xff, 0xff, 0xff, 1, 1, 2, 0, 0, 0, 1, b'x']),
            Part::Ok {
                status,
                insert_id,
                warnings,
            } => {
                let ok = OkPacket {
                    status: *status | more,
                    last_insert_id: *insert_id,
                    warnings: *warnings,
                    ..OkPacket::default()
                };
                write_packet(&mut out, &mut 1, &ok.encode(capabilities));
                end.status = Some(ok.status);
                end.warnings = *warnings;
                if *insert_id != 0 {
                    end.insert_id = *insert_id;
                }
            }
            Part::Rows { columns, rows } => {
                let definitions = vec![ColumnDefinition::default(); *columns];
                let rows = rows
                    .iter()
                    .map(|row| row.iter().map(Option::as_deref).collect())
                    .collect::<Vec<_>>();
                text_result_set(&mut out, 1, &definitions, &rows, capabilities, more);
                end.status = Some(more);
                end.warnings = 0;
                end.has_rows = true;
                end.rows += rows.len() as u64;
            }
        }
    }
    if let Some(code) = error {
        err_frame(&mut out, 1, code, "42000", "no");
        end = End {
            status: None,
            error,
            ..end
        };
    }
    (out, end)
}

proptest! {
    #[test]
    fn responses_end_where_they_end_however_they_are_cut(
        capabilities in capabilities(),
        responses in vec((vec(part(), 0..4), proptest::option::of(1..2000_u16)), 1..4),
        lengths in vec(1..80_usize, 1..40),
    ) {
        let mut stream = Vec::new();
        let mut ends = Vec::new();
        for (parts, error) in &responses {
            // A response has at least one result.
            let error = error.or(parts.iter().all(|part| matches!(part, Part::Progress)).then_some(1064));
            let (bytes, end) = response(parts, error, capabilities);
            stream.extend(bytes);
            ends.push((stream.len(), ResponseEvent::End(end)));
        }
        let expected = vec![Expect::Results; responses.len()];
        for lengths in [WHOLE, &lengths] {
            let noted = scan_responses(capabilities, &expected, &stream, lengths);
            prop_assert!(!noted.refused);
            prop_assert_eq!(&noted.events, &ends);
        }
    }

    #[test]
    fn commands_end_where_they_end_however_they_are_cut(
        commands in vec(vec(any::<u8>(), 0..300), 1..12),
        lengths in vec(1..80_usize, 1..40),
    ) {
        let mut stream = Vec::new();
        let mut boundaries = Vec::new();
        for command in &commands {
            boundaries.push(stream.len());
            write_packet(&mut stream, &mut 0, command);
            boundaries.push(stream.len());
        }
        for lengths in [WHOLE, &lengths] {
            let noted = scan_commands(&stream, lengths);
            prop_assert!(!noted.refused);
            let seen = noted.events.iter().map(|(at, _)| *at).collect::<Vec<_>>();
            prop_assert_eq!(&seen, &boundaries);
            let codes = noted.events.iter().filter_map(|(_, event)| match event {
                ClientEvent::Begin(head) => Some(head.code),
                ClientEvent::End => None,
            });
            // An empty packet is no command that anybody knows.
            let expected = commands.iter().map(|command| command.first().copied().unwrap_or(0xff));
            prop_assert!(codes.eq(expected));
        }
    }

    #[test]
    fn noise_is_refused_at_the_same_place_however_it_is_cut(
        capabilities in capabilities(),
        bytes in vec(prop_oneof![0..4_u8, any::<u8>()], 0..400),
        lengths in vec(1..9_usize, 1..40),
    ) {
        prop_assert_eq!(scan_commands(&bytes, &lengths), scan_commands(&bytes, WHOLE));
        for expect in [Expect::Results, Expect::Prepared, Expect::Rows, Expect::Fields, Expect::One, Expect::Text] {
            let expected = [expect; 400];
            prop_assert_eq!(
                scan_responses(capabilities, &expected, &bytes, &lengths),
                scan_responses(capabilities, &expected, &bytes, WHOLE)
            );
        }
    }
}

#[test]
fn packets_of_full_frames_go_on_in_the_next() {
    for len in [
        FRAME_PAYLOAD_MAX - 1,
        FRAME_PAYLOAD_MAX,
        FRAME_PAYLOAD_MAX + 1,
        2 * FRAME_PAYLOAD_MAX,
    ] {
        let mut command = vec![3];
        command.resize(len, b'x');
        let mut stream = Vec::new();
        write_packet(&mut stream, &mut 0, &command);
        for lengths in [WHOLE, &[65_536], &[FRAME_PAYLOAD_MAX + 4], &[FRAME_PAYLOAD_MAX + 6, 1]] {
            let noted = scan_commands(&stream, &lengths[..lengths.len().min(2)]);
            let ends = noted.events.iter().map(|(at, _)| *at).collect::<Vec<_>>();
            assert_eq!(
                ends,
                [0, stream.len()],
                "a command of {len} bytes in pieces of {lengths:?}"
            );
        }
    }
}

/// A row whose second frame begins like an end of rows, and one whose first frame does.
#[test]
fn a_long_row_is_not_taken_for_the_end() {
    for capabilities in [
        Capabilities::PROTOCOL_41,
        Capabilities::PROTOCOL_41 | Capabilities::DEPRECATE_EOF,
    ] {
        let mut stream = Vec::new();
        let mut sequence = 1;
        write_packet(&mut stream, &mut sequence, &[1]);
        write_packet(
            &mut stream,
            &mut sequence,
            &ColumnDefinition::default().encode(capabilities),
        );
        if !capabilities.contains(Capabilities::DEPRECATE_EOF) {
            eof_frame(&mut stream, sequence, 0, StatusFlags::EMPTY, capabilities);
        }
        let value = vec![0xfe; FRAME_PAYLOAD_MAX - 2];
        let row = text_row(&[Some(&value)]);
        assert_eq!(row.first(), Some(&0xfd));
        write_packet(&mut stream, &mut sequence, &row);
        let value = vec![0xff; 0x100_0000];
        let row = text_row(&[Some(&value)]);
        assert_eq!(
            row.first(),
            Some(&0xfe),
            "an eight-byte length looks like an EOF's header"
        );
        write_packet(&mut stream, &mut sequence, &row);
        eof_frame(&mut stream, sequence, 0, StatusFlags::AUTOCOMMIT, capabilities);
        let end = ResponseEvent::End(End {
            status: Some(StatusFlags::AUTOCOMMIT),
            has_rows: true,
            rows: 2,
            ..End::default()
        });
        for lengths in [WHOLE, &[65_536], &[4_099]] {
            let noted = scan_responses(capabilities, &[Expect::Results], &stream, lengths);
            assert_eq!(
                noted.events,
                [(stream.len(), end)],
                "{capabilities:?} in pieces of {lengths:?}"
            );
        }
    }
}
