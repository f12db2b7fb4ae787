//! A report as JSON. Tens of thousands of rows have the same few names and values: each is written as JSON once and copied
//! from then on, which takes a fraction of the time of a writer that looks at every character.

use std::fmt::Write as _;

use super::SpendReport;
use crate::store::{Group, Sums};

/// Room for the four numbers of a row; more is made where they need more.
const BYTES_OF_NUMBERS: usize = 40;

/// All of a report, a line for each row.
pub(super) fn written(report: &SpendReport) -> String {
    let json = |text: Option<&str>| serde_json::to_string(&text).expect("a text can be written");
    let names: Vec<_> = report.columns().iter().map(|name| json(Some(name)) + ":").collect();
    let values: Vec<_> = report.spend.values.iter().map(|value| json(value.as_deref()) + ",").collect();
    let groups = &report.spend.groups;

    let of_places = |group: &Group| group.places.iter().map(|place| values[*place].len()).sum::<usize>();
    let of_names = names.iter().map(String::len).sum::<usize>() + SUMS.concat().len() + BYTES_OF_NUMBERS;
    let length = groups.iter().map(of_places).sum::<usize>() + (groups.len() + 2) * of_names;

    let mut out = String::with_capacity(length);
    out.push_str(r#"{"data":["#);
    for (number, Group { places, sums }) in groups.iter().enumerate() {
        out.push_str(if number == 0 { "\n{" } else { ",\n{" });
        for (name, place) in names.iter().zip(places) {
            out.push_str(name);
            out.push_str(&values[*place]);
        }
        push_sums(&mut out, sums);
        out.push('}');
    }
    out.push_str("\n],\n\"next_cursor\":null,\"total\":{");
    push_sums(&mut out, report.total());
    out.push_str(r#","unreconciled_micro_usd":"#);
    out.push_str(itoa::Buffer::new().format(report.unreconciled().micro_rounded_up()));
    out.push_str("}}");
    out
}

/// What stands before each number of a row.
const SUMS: [&str; 4] =
    [r#""requests":"#, r#","input_tokens":"#, r#","output_tokens":"#, r#","cost_micro_usd":"#];

fn push_sums(out: &mut String, sums: &Sums) {
    let [requests, input_tokens, output_tokens, cost] = SUMS;
    let counts =
        [(requests, sums.requests), (input_tokens, sums.input_tokens), (output_tokens, sums.output_tokens)];
    for (name, count) in counts {
        out.push_str(name);
        out.push_str(itoa::Buffer::new().format(count));
    }
    out.push_str(cost);
    push_micro(out, sums.cost_nano_usd);
}

/// Appends micro-USD with up to three decimals, of a sum that may be larger than one amount can be.
pub(super) fn push_micro(text: &mut String, nano: i128) {
    let (whole, rest) = (nano.unsigned_abs() / 1_000, nano.unsigned_abs() % 1_000);
    if nano < 0 {
        text.push('-');
    }
    text.push_str(itoa::Buffer::new().format(whole));
    if rest > 0 {
        write!(text, ".{rest:03}").expect("writing to a string cannot fail");
        text.truncate(text.trim_end_matches('0').len());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        domain::NanoUsd,
        store::{GroupKey, Spend},
    };

    fn report(keys: &[GroupKey], values: &[Option<&str>], groups: &[(&[usize], u64)]) -> SpendReport {
        let group = |(places, requests): &(&[usize], u64)| Group {
            places: (*places).into(),
            sums: Sums {
                requests: *requests,
                input_tokens: 0,
                output_tokens: u64::MAX,
                cost_nano_usd: 1_500,
            },
        };
        SpendReport {
            keys: keys.to_vec(),
            spend: Spend {
                values: values.iter().map(|value| value.map(Into::into)).collect(),
                groups: groups.iter().map(group).collect(),
                total: Sums {
                    requests: 3,
                    cost_nano_usd: i128::from(i64::MAX) * 1_000 + 1,
                    ..Sums::default()
                },
            },
            unreconciled: NanoUsd::new(1),
        }
    }

    fn read(report: &SpendReport) -> serde_json::Value {
        serde_json::from_str(&written(report)).expect("JSON")
    }

    #[test]
    fn names_and_values_of_any_characters_stay_what_they_are() {
        let strange = "a\"b\\c\u{1}\u{2028}ü";
        let keys = [GroupKey::Model, GroupKey::Tag("tea\"m".into())];
        let report = report(&keys, &[None, Some(""), Some(strange)], &[(&[2, 0], 1), (&[1, 2], 2)]);
        let sums = |requests: u64| json!({"requests": requests, "input_tokens": 0, "output_tokens": u64::MAX, "cost_micro_usd": 1.5});
        let mut rows = [sums(1), sums(2)];
        for (row, values) in rows.iter_mut().zip([[json!(strange), json!(null)], [json!(""), json!(strange)]])
        {
            let [model, tag] = values;
            row["model"] = model;
            row["tag:tea\"m"] = tag;
        }
        assert_eq!(read(&report)["data"], json!(rows));
    }

    #[test]
    fn a_report_of_no_group_and_one_of_no_key_are_whole() {
        assert_eq!(read(&report(&[GroupKey::Day], &[None], &[]))["data"], json!([]));
        let one = read(&report(&[], &[], &[(&[], 7)]));
        assert_eq!(one["data"].as_array().map(Vec::len), Some(1));
        assert_eq!(one["data"][0]["requests"], 7);
        assert_eq!(one["total"]["requests"], 3);
        assert_eq!(one["total"]["unreconciled_micro_usd"], 1);
        assert_eq!(one["next_cursor"], json!(null));
        let text = written(&report(&[], &[], &[]));
        assert!(text.contains(r#""cost_micro_usd":9223372036854775807.001,"#), "{text}");
    }
}
