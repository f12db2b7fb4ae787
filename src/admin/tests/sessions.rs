//! Sessions: listing them, and everything that ends one.

use serde_json::{Value, json};

use super::harness::{House, PASSWORD};
use crate::{
    domain::{Actor, Role, SessionId, TenantId, UserId},
    vault::SessionSubject,
};

const OTHER_PASSWORD: &str = "another long passphrase";

/// Whether a session is still one.
async fn lives(house: &House, token: &str) -> bool {
    let answer = house.send("GET", "/api/auth/session", Some(token), None).await;
    match answer.status.as_u16() {
        200 => true,
        _ => {
            answer.refused(401, "unauthorized");
            false
        }
    }
}

async fn session_id(house: &House, token: &str) -> String {
    let current = house.send("GET", "/api/auth/session", Some(token), None).await.expect(200);
    current["session_id"].as_str().expect("an id").to_owned()
}

async fn email_of(house: &House, user: &str) -> String {
    let user = house.get(&format!("/api/users/{user}")).await.expect(200);
    user["email"].as_str().expect("an address").to_owned()
}

/// A user of tenant `acme` with three sessions.
async fn three(house: &House, tenant: TenantId, role: Role) -> (String, [String; 3]) {
    let (user, first) = house.user(role, tenant).await;
    let email = email_of(house, &user).await;
    (user, [first, house.session_of(&email).await, house.session_of(&email).await])
}

async fn alive(house: &House, tokens: &[String; 3]) -> [bool; 3] {
    [lives(house, &tokens[0]).await, lives(house, &tokens[1]).await, lives(house, &tokens[2]).await]
}

#[tokio::test]
async fn at_083_what_ends_a_session_ends_it_at_once_and_no_other() {
    let house = House::new().await;
    let tenant = house.tenant("acme").await;
    let (_, bystander) = house.user(Role::TenantAdmin, tenant).await;
    let fresh = async || three(&house, tenant, Role::Finance).await;

    let (_, tokens) = fresh().await;
    let done = house.send("POST", "/api/auth/logout", Some(&tokens[1]), None).await;
    assert_eq!((done.status.as_u16(), done.text.as_str()), (204, ""));
    assert_eq!(alive(&house, &tokens).await, [true, false, true], "logged out");
    house.send("POST", "/api/auth/logout", Some(&tokens[1]), None).await.refused(401, "unauthorized");

    let (_, tokens) = fresh().await;
    let second = session_id(&house, &tokens[1]).await;
    let path = format!("/api/auth/sessions/{second}");
    assert_eq!(house.send("DELETE", &path, Some(&tokens[0]), None).await.status.as_u16(), 204);
    assert_eq!(alive(&house, &tokens).await, [true, false, true], "ended from another session");
    house.send("DELETE", &path, Some(&tokens[0]), None).await.refused(404, "not_found");

    let (_, tokens) = fresh().await;
    assert_eq!(house.send("POST", "/api/auth/logout-all", Some(&tokens[0]), None).await.status.as_u16(), 204);
    assert_eq!(alive(&house, &tokens).await, [false; 3], "logged out everywhere");

    let (user, tokens) = fresh().await;
    let path = format!("/api/users/{user}/sessions");
    assert_eq!(house.send("DELETE", &path, Some(&bystander), None).await.status.as_u16(), 204);
    assert_eq!(alive(&house, &tokens).await, [false; 3], "ended by an administrator");

    for change in
        [json!({"role": "auditor"}), json!({"is_active": false}), json!({"password": OTHER_PASSWORD})]
    {
        let (user, tokens) = fresh().await;
        let path = format!("/api/users/{user}");
        house.send("PATCH", &path, Some(&bystander), Some(change.clone())).await.expect(200);
        assert_eq!(alive(&house, &tokens).await, [false; 3], "{change}");
        let listed = house.get(&format!("{path}/sessions")).await.expect(200);
        assert_eq!(listed["data"], json!([]), "{change}");
    }

    let (user, tokens) = fresh().await;
    house.send("DELETE", &format!("/api/users/{user}"), Some(&bystander), None).await;
    assert_eq!(alive(&house, &tokens).await, [false; 3], "deleted");

    assert!(lives(&house, &bystander).await);
    house.delete(&format!("/api/tenants/{tenant}")).await;
    assert!(!lives(&house, &bystander).await, "its tenant is gone");
    assert!(lives(&house, &house.owner).await);
    house.pass(86_400 + 10);
    assert!(!lives(&house, &house.owner).await, "expired");
}

#[tokio::test]
async fn at_083_a_new_password_of_ones_own_ends_every_session_and_answers_a_new_one() {
    let house = House::new().await;
    let (user, tokens) = three(&house, house.default_tenant, Role::Auditor).await;
    let email = email_of(&house, &user).await;
    let change = async |token: &str, current: &str, new: &str| {
        let body = json!({"current_password": current, "new_password": new});
        house.send("POST", "/api/auth/password", Some(token), Some(body)).await
    };
    let login = async |password: &str| {
        let body = json!({"email": email, "password": password});
        house.send("POST", "/api/auth/login", None, Some(body)).await
    };
    change(&tokens[0], PASSWORD, "short").await.refused(400, "invalid_password");
    change(&tokens[0], PASSWORD, PASSWORD).await.refused(400, "invalid_password");
    change(&tokens[0], "not the password", OTHER_PASSWORD).await.refused(403, "forbidden");
    assert_eq!(alive(&house, &tokens).await, [true; 3], "nothing has happened");

    let session = change(&tokens[0], PASSWORD, OTHER_PASSWORD).await.expect(200);
    assert_eq!(alive(&house, &tokens).await, [false; 3]);
    let token = session["token"].as_str().expect("a token");
    assert_eq!(session["access_token"], token);
    assert!(lives(&house, token).await);
    login(PASSWORD).await.refused(401, "invalid_credentials");
    login(OTHER_PASSWORD).await.expect(200);

    // Somebody with another's session cannot try passwords for long: the account is throttled as a whole.
    house.pass(61);
    for _ in 0..5 {
        change(token, "not the password", PASSWORD).await.refused(403, "forbidden");
    }
    let shut = change(token, OTHER_PASSWORD, PASSWORD).await;
    shut.refused(429, "too_many_attempts");
    assert_eq!(shut.headers["retry-after"], "60");
    login(OTHER_PASSWORD).await.refused(429, "too_many_attempts");
    house.pass(61);
    change(token, OTHER_PASSWORD, PASSWORD).await.expect(200);

    let log = house.get("/api/v1/audit?action=user.password_changed").await.expect(200);
    let outcomes: Vec<_> =
        log["data"].as_array().expect("entries").iter().map(|entry| entry["outcome"].clone()).collect();
    assert_eq!(
        outcomes,
        ["success", "refused", "refused", "refused", "refused", "refused", "success", "refused"]
    );
    assert!(!log.to_string().contains("passphrase"));
}

#[tokio::test]
async fn sessions_are_listed_to_those_whose_they_are_and_to_those_who_manage_them() {
    let house = House::new().await;
    let tenant = house.tenant("acme").await;
    let (user, tokens) = three(&house, tenant, Role::TenantAdmin).await;
    house.pass(30);
    let own = house.send("GET", "/api/auth/sessions", Some(&tokens[1]), None).await.expect(200);
    let rows = own["data"].as_array().expect("sessions");
    let current: Vec<_> = rows.iter().map(|row| row["current"].as_bool().expect("a flag")).collect();
    assert_eq!(current, [false, true, false]);
    assert_eq!(rows[1]["id"], session_id(&house, &tokens[1]).await);
    assert_eq!(rows[1]["last_seen_at"], rows[1]["created_at"], "within a minute");
    assert_eq!(rows[1]["expires_at"], "2026-11-22T12:00:00.000Z");
    let page = house.send("GET", "/api/auth/sessions?limit=2", Some(&tokens[1]), None).await.expect(200);
    let cursor = page["next_cursor"].as_str().expect("a cursor");
    let path = format!("/api/auth/sessions?cursor={cursor}");
    let rest = house.send("GET", &path, Some(&tokens[1]), None).await.expect(200);
    assert_eq!(rest["data"].as_array().map(Vec::len), Some(1));

    let path = format!("/api/users/{user}/sessions");
    let seen = house.get(&path).await.expect(200);
    assert_eq!(seen["data"].as_array().map(Vec::len), Some(3));
    assert!(seen["data"].as_array().expect("sessions").iter().all(|row| row["current"] == false));

    // An owner in the same tenant is nobody whose sessions an administrator sees or ends.
    let (owner, owners_session) = house.user(Role::Owner, tenant).await;
    let path = format!("/api/users/{owner}/sessions");
    house.send("GET", &path, Some(&tokens[0]), None).await.refused(403, "forbidden");
    house.send("DELETE", &path, Some(&tokens[0]), None).await.refused(403, "forbidden");
    // Nor is a session of somebody else's one's own.
    let theirs = format!("/api/auth/sessions/{}", session_id(&house, &owners_session).await);
    house.send("DELETE", &theirs, Some(&tokens[0]), None).await.refused(404, "not_found");
    house.send("DELETE", "/api/auth/sessions/none", Some(&tokens[0]), None).await.refused(404, "not_found");
    assert!(lives(&house, &owners_session).await);

    let (_, finance) = house.user(Role::Finance, tenant).await;
    house.send("GET", &path, Some(&finance), None).await.refused(403, "forbidden");
}

#[tokio::test]
async fn the_last_use_is_noted_once_a_minute_and_not_at_every_request() {
    let house = House::new().await;
    let id: SessionId = session_id(&house, &house.owner).await.parse().expect("an id");
    let began = house.clock.now();
    let seen = async || house.control.store.session(id).await.expect("a session").seen_at;
    let writes = || house.control.store.statements().writes;
    house.pass(59);
    let before = writes();
    assert!(lives(&house, &house.owner).await);
    assert_eq!((seen().await, writes()), (began, before));
    house.pass(1);
    assert!(lives(&house, &house.owner).await);
    assert_eq!(seen().await, house.clock.now());
    let before = writes();
    for _ in 0..5 {
        assert!(lives(&house, &house.owner).await);
    }
    assert_eq!(writes(), before);
}

#[tokio::test]
async fn at_080_a_token_signed_by_us_holds_only_with_its_row_and_the_users_role_and_tenant() {
    let house = House::new().await;
    let tenant = house.tenant("acme").await;
    let (user, token) = house.user(Role::Finance, tenant).await;
    let (user, session): (UserId, SessionId) =
        (user.parse().expect("an id"), session_id(&house, &token).await.parse().expect("an id"));
    let (stranger, _) = house.user(Role::Owner, house.default_tenant).await;
    let good = SessionSubject { session, user, role: Role::Finance, tenant, session_version: 1 };
    let signed = |subject: &SessionSubject| house.control.sessions.issue(subject, house.clock.now());
    assert!(lives(&house, &signed(&good)).await);
    for (what, wrong) in [
        ("a session that never began", SessionSubject { session: SessionId::generate(), ..good.clone() }),
        ("another's session", SessionSubject { user: stranger.parse().expect("an id"), ..good.clone() }),
        ("a user that is not there", SessionSubject { user: UserId::generate(), ..good.clone() }),
        ("a higher role", SessionSubject { role: Role::Owner, ..good.clone() }),
        ("another tenant", SessionSubject { tenant: house.default_tenant, ..good.clone() }),
        ("another version", SessionSubject { session_version: 2, ..good.clone() }),
    ] {
        assert!(!lives(&house, &signed(&wrong)).await, "{what}");
    }
}

#[tokio::test]
async fn a_session_that_a_command_signs_is_listed_audited_and_ended_like_any_other() {
    let house = House::new().await;
    let ttl = std::time::Duration::from_secs(60);
    let token = house.control.sign_owner_session(ttl).await.expect("a session");
    assert!(lives(&house, &token).await);
    let listed = house.get("/api/auth/sessions").await.expect(200);
    let id = session_id(&house, &token).await;
    let row = listed["data"].as_array().expect("sessions").iter().find(|row| row["id"] == id.as_str());
    assert_eq!(row.expect("it")["address"], Value::Null);
    let log = house.get("/api/v1/audit?action=session.created&limit=1").await.expect(200);
    assert_eq!(
        (&log["data"][0]["actor"], &log["data"][0]["details"]["session"]),
        (&json!(Actor::Cli.label()), &json!(id))
    );
    assert_eq!(
        house.send("POST", "/api/auth/logout-all", Some(&house.owner), None).await.status.as_u16(),
        204
    );
    assert!(!lives(&house, &token).await);
    let token = house.control.sign_owner_session(ttl).await.expect("a session");
    house.pass(66);
    assert!(!lives(&house, &token).await);
}
