//! The OpenAPI document, made from the same list of routes as the router.

use axum::http::Method;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ComponentsBuilder, ContentBuilder, InfoBuilder, ObjectBuilder, OpenApi, OpenApiBuilder, Paths, Ref,
        RefOr, Required, ResponseBuilder, Schema,
        path::{HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn},
        request_body::RequestBodyBuilder,
        schema::{ArrayBuilder, SchemaType, Type},
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

use super::{auth::Access, routes};

/// What a route takes and answers.
#[derive(Default)]
pub(super) struct Described {
    summary: &'static str,
    query: &'static [&'static str],
    body: Option<RefOr<Schema>>,
    body_may_be_missing: bool,
    answer: Option<(u16, &'static str, Option<RefOr<Schema>>)>,
    answers_text_too: Option<&'static str>,
    idempotent: bool,
    schemas: Vec<(String, RefOr<Schema>)>,
}

impl Described {
    pub(super) fn new(summary: &'static str) -> Self {
        Self { summary, ..Self::default() }
    }

    fn schema<T: ToSchema>(&mut self) -> RefOr<Schema> {
        T::schemas(&mut self.schemas);
        self.schemas.push((T::name().into_owned(), T::schema()));
        Ref::from_schema_name(T::name()).into()
    }

    /// Query members, all optional texts.
    pub(super) fn query(mut self, names: &'static [&'static str]) -> Self {
        self.query = names;
        self
    }

    /// A JSON body.
    pub(super) fn takes<T: ToSchema>(mut self) -> Self {
        self.body = Some(self.schema::<T>());
        self
    }

    /// A JSON body that may be left out.
    pub(super) fn may_take<T: ToSchema>(mut self) -> Self {
        self.body_may_be_missing = true;
        self.takes::<T>()
    }

    /// An `Idempotency-Key`.
    pub(super) fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// One object.
    pub(super) fn answers<T: ToSchema>(mut self, status: u16) -> Self {
        let schema = self.schema::<T>();
        self.answer = Some((status, "application/json", Some(schema)));
        self
    }

    /// The same as CSV, where it is asked for.
    pub(super) fn answers_csv_too(mut self) -> Self {
        self.answers_text_too = Some("text/csv");
        self
    }

    /// The same as JSON lines, where they are asked for.
    pub(super) fn answers_lines_too(mut self) -> Self {
        self.answers_text_too = Some("application/x-ndjson");
        self
    }

    /// A bare array.
    pub(super) fn answers_array<T: ToSchema>(mut self) -> Self {
        let items = self.schema::<T>();
        let array = ArrayBuilder::new().items(items).build();
        self.answer = Some((200, "application/json", Some(Schema::Array(array).into())));
        self
    }

    /// A page.
    pub(super) fn answers_page<T: ToSchema>(mut self) -> Self {
        let items = self.schema::<T>();
        let page = ObjectBuilder::new()
            .property("data", ArrayBuilder::new().items(items))
            .required("data")
            .property(
                "next_cursor",
                ObjectBuilder::new().schema_type(SchemaType::from_iter([Type::String, Type::Null])),
            )
            .required("next_cursor")
            .build();
        self.answer = Some((200, "application/json", Some(Schema::Object(page).into())));
        self
    }

    /// An object that is described elsewhere, or nothing.
    pub(super) fn answers_other(mut self, status: u16, content: &'static str) -> Self {
        let schema = (!content.is_empty()).then(|| Schema::Object(ObjectBuilder::new().build()).into());
        self.answer = Some((status, content, schema));
        self
    }
}

/// The document.
pub fn document() -> OpenApi {
    let mut paths = Paths::new();
    let mut components = ComponentsBuilder::new().security_scheme(
        "session",
        SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build()),
    );
    components = components.security_scheme(
        "service_token",
        SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-Service-Token"))),
    );
    components = components.schema("Error", error_schema());
    for route in routes::table() {
        let described = route.described;
        let mut operation = OperationBuilder::new()
            .summary(Some(described.summary))
            .operation_id(Some(operation_id(&route.method, route.path)))
            .tag(tag(route.path));
        for name in placeholders(route.path) {
            operation = operation.parameter(parameter(name, ParameterIn::Path, Required::True));
        }
        for name in described.query {
            operation = operation.parameter(parameter(name, ParameterIn::Query, Required::False));
        }
        if described.idempotent {
            operation =
                operation.parameter(parameter("Idempotency-Key", ParameterIn::Header, Required::False));
        }
        if let Some(schema) = described.body {
            let content = ContentBuilder::new().schema(Some(schema)).build();
            let required = if described.body_may_be_missing { Required::False } else { Required::True };
            operation = operation.request_body(Some(
                RequestBodyBuilder::new()
                    .content("application/json", content)
                    .required(Some(required))
                    .build(),
            ));
        }
        let scheme = match route.access {
            Access::Anyone => None,
            Access::Session | Access::Needs(_) => Some("session"),
            Access::Service => Some("service_token"),
        };
        if let Some(scheme) = scheme {
            operation = operation.security(SecurityRequirement::new(scheme, Vec::<String>::new()));
        }
        if let Some((status, content_type, schema)) = described.answer {
            let mut response = ResponseBuilder::new().description("Done");
            if let Some(schema) = schema {
                response = response.content(content_type, ContentBuilder::new().schema(Some(schema)).build());
            }
            if let Some(kind) = described.answers_text_too {
                let text = ContentBuilder::new().schema(Some(String::schema())).build();
                response = response.content(kind, text);
            }
            operation = operation.response(status.to_string(), response.build());
        }
        let refused = ContentBuilder::new().schema(Some(Ref::from_schema_name("Error"))).build();
        operation = operation.response(
            "default",
            ResponseBuilder::new().description("Refused").content("application/json", refused).build(),
        );
        for (name, schema) in described.schemas {
            components = components.schema(name, schema);
        }
        paths.add_path_operation(route.path, vec![http_method(&route.method)], operation.build());
    }
    OpenApiBuilder::new()
        .info(InfoBuilder::new().title("Keystile admin API").version(env!("CARGO_PKG_VERSION")).build())
        .paths(paths)
        .components(Some(components.build()))
        .build()
}

fn error_schema() -> Schema {
    let error = ObjectBuilder::new()
        .property("code", String::schema())
        .required("code")
        .property("message", String::schema())
        .required("message");
    Schema::Object(ObjectBuilder::new().property("error", error).required("error").build())
}

fn parameter(name: &str, place: ParameterIn, required: Required) -> ParameterBuilder {
    ParameterBuilder::new().name(name).parameter_in(place).required(required).schema(Some(String::schema()))
}

fn placeholders(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn tag(path: &str) -> String {
    path.split('/').find(|part| !matches!(*part, "" | "api" | "v1")).unwrap_or("api").to_owned()
}

fn operation_id(method: &Method, path: &str) -> String {
    let mut id = method.as_str().to_ascii_lowercase();
    for part in path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty()) {
        id.push('_');
        id.push_str(part);
    }
    id
}

fn http_method(method: &Method) -> HttpMethod {
    match *method {
        Method::POST => HttpMethod::Post,
        Method::PUT => HttpMethod::Put,
        Method::PATCH => HttpMethod::Patch,
        Method::DELETE => HttpMethod::Delete,
        _ => HttpMethod::Get,
    }
}
