//! How a spend report is described. Its columns depend on what is asked for, so that no derived schema can name them.

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Object, ObjectBuilder, RefOr, Schema,
        schema::{AdditionalProperties, ArrayBuilder, SchemaType, Type},
    },
};

use super::SpendReport;

/// The columns that may be asked for, besides `tag:NAME`.
const COLUMNS: [&str; 5] = ["tenant_id", "virtual_key_id", "provider", "model", "day"];

impl PartialSchema for SpendReport {
    fn schema() -> RefOr<Schema> {
        let maybe_text = || Object::with_type(SchemaType::from_iter([Type::String, Type::Null]));
        let mut row = sums();
        for column in COLUMNS {
            row = row.property(column, maybe_text());
        }
        let row = row
            .description(Some(
                "The columns that `group_by` names, and the sums; a tag that is not set is `null`",
            ))
            .additional_properties(Some(AdditionalProperties::RefOr(maybe_text().into())));
        let total = sums()
            .property(
                "unreconciled_micro_usd",
                ObjectBuilder::new().schema_type(Type::Integer).description(Some(
                    "Leased of virtual keys to gateways that are silent, rounded up: at most so much may have been spent besides",
                )),
            )
            .required("unreconciled_micro_usd")
            .additional_properties(Some(AdditionalProperties::FreeForm(false)));
        ObjectBuilder::new()
            .description(Some("Sums by group, and the sum of everything"))
            .property("data", ArrayBuilder::new().items(row))
            .required("data")
            .property(
                "next_cursor",
                ObjectBuilder::new().schema_type(Type::Null).description(Some("A report is one page")),
            )
            .required("next_cursor")
            .property("total", total)
            .required("total")
            .additional_properties(Some(AdditionalProperties::FreeForm(false)))
            .into()
    }
}

impl ToSchema for SpendReport {}

fn sums() -> ObjectBuilder {
    let count = || ObjectBuilder::new().schema_type(Type::Integer);
    ObjectBuilder::new()
        .property("requests", count())
        .required("requests")
        .property("input_tokens", count())
        .required("input_tokens")
        .property("output_tokens", count())
        .required("output_tokens")
        .property(
            "cost_micro_usd",
            ObjectBuilder::new().schema_type(Type::Number).description(Some("Up to three decimals")),
        )
        .required("cost_micro_usd")
}
