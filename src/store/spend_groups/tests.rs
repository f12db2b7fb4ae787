use super::*;

fn lines(columns: &[&str], days: &str) -> Lines {
    let columns = columns.iter().map(|column| (*column).to_owned()).collect();
    Lines { table: "spend_rollup", columns, days: days.into(), first_day: 100 }
}

fn values(spend: &Spend) -> Vec<Vec<Option<&str>>> {
    spend.rows().map(|(values, _)| values).collect()
}

#[test]
fn what_has_no_day_that_is_asked_for_makes_no_group() {
    let keys = [GroupKey::Key];
    let mut groups = Groups::by(&keys);
    let two = lines(&["vk_1\nvk_2"], "[[4,1,0,0,0,0]]\n[[5,1,0,0,0,0]]");
    groups.add(&two, |day| day == 105).expect("added");
    assert_eq!((groups.count, groups.values.texts.len()), (1, 1));
    let spend = groups.finish();
    assert_eq!((values(&spend), spend.total.requests), (vec![vec![Some("vk_2")]], 1));
}

#[test]
fn columns_of_other_lengths_and_days_that_are_none_are_refused() {
    let keys = [GroupKey::Key];
    for (columns, days) in [
        ("vk_1", "[]\n[]"),
        ("vk_1\nvk_2\nvk_3", "[]\n[]"),
        ("vk_1", "[[31,1,0,0,0,0]]"),
        ("vk_1", "[[1,1,0,0,0,-1]]"),
        ("vk_1", ""),
    ] {
        let answer = Groups::by(&keys).add(&lines(&[columns], days), |_| true);
        assert!(
            matches!(answer, Err(StoreError::Corrupt { table: "spend_rollup", .. })),
            "{columns:?} {days}"
        );
    }
}

#[test]
fn values_stand_in_the_order_of_the_keys_and_groups_in_that_of_the_values() {
    let keys = [GroupKey::Tag("b".into()), GroupKey::Day, GroupKey::Model, GroupKey::Tag("a".into())];
    let mut groups = Groups::by(&keys);
    // More texts of tags than are remembered.
    let tags = [r#"{"a":"1","b":"2"}"#, r#"{"a":"2"}"#, "{}", r#"{"b":"10"}"#, r#"{"a":"1","b":"2"}"#];
    let days = ["[[1,1,0,0,0,0]]"; 5].join("\n");
    groups.add(&lines(&["x/m\nx/m\nx/k\nx/m\nx/m", &tags.join("\n")], &days), |_| true).expect("added");
    let spend = groups.finish();
    let day = Some("1970-04-12");
    assert_eq!(
        values(&spend),
        [
            vec![None, day, Some("x/k"), None],
            vec![None, day, Some("x/m"), Some("2")],
            vec![Some("10"), day, Some("x/m"), None],
            vec![Some("2"), day, Some("x/m"), Some("1")],
        ]
    );
    assert_eq!(spend.rows().map(|(_, sums)| sums.requests).collect::<Vec<_>>(), [1, 1, 1, 2]);
    assert!(matches!(
        Groups::by(&keys).add(&lines(&["x/m", "[]"], "[[1,1,0,0,0,0]]"), |_| true),
        Err(StoreError::Corrupt { .. })
    ));
}

#[test]
fn what_is_taken_away_leaves_no_empty_group_and_must_have_been_there() {
    let keys = [GroupKey::Key, GroupKey::Day];
    let mut groups = Groups::by(&keys);
    groups.add(&lines(&["a\nb"], "[[1,2,5,5,1,7],[2,1,0,0,0,0]]\n[[1,1,0,0,0,3]]"), |_| true).expect("added");
    groups.take(&lines(&["a\nb"], "[[1,1,4,5,1,6]]\n[[1,1,0,0,0,3]]")).expect("taken");
    assert_eq!(groups.count, 2);
    for more in [
        ("a", "[[2,2,0,0,0,0]]"),
        ("a", "[[1,1,2,0,0,0]]"),
        ("a", "[[1,1,0,1,0,0]]"),
        ("a", "[[1,1,0,0,0,2]]"),
        ("a", "[[3,1,0,0,0,0]]"),
        ("c", "[[1,1,0,0,0,0]]"),
    ] {
        let answer = groups.take(&lines(&[more.0], more.1));
        assert!(matches!(answer, Err(StoreError::Corrupt { table: "spend_rollup", .. })), "{more:?}");
    }
    let spend = groups.finish();
    let day = |day| Some(["1970-04-12", "1970-04-13"][day]);
    assert_eq!(values(&spend), [vec![Some("a"), day(0)], vec![Some("a"), day(1)]]);
    let left = Sums { requests: 1, input_tokens: 1, output_tokens: 0, cost_nano_usd: 1 };
    assert_eq!(spend.groups[0].sums, left);
    assert_eq!(spend.total.requests, 2);
}
