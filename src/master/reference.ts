/**
 * The reference of the HTTP API as a page, generated from its OpenAPI document: the same endpoints, schemas and texts,
 * without a script or external resources.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { html, raw } from "hono/html";
import { STYLE } from "./page/style.ts";
import REFERENCE_STYLE from "./reference.css" with { type: "text" };

type Html = ReturnType<typeof html>;

/** The parts of a schema that the page shows. */
interface Schema {
  readonly $ref?: string;
  readonly type?: string | readonly string[];
  readonly description?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: boolean | Schema;
  readonly items?: Schema;
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
  readonly allOf?: readonly Schema[];
  readonly format?: string;
  readonly pattern?: string;
  readonly default?: unknown;
  readonly example?: unknown;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
}

interface Parameter {
  readonly name: string;
  readonly in: string;
  readonly required?: boolean;
  readonly description?: string;
  readonly schema?: Schema;
}

type Content = Readonly<Record<string, { readonly schema?: Schema }>>;

interface Operation {
  readonly operationId: string;
  readonly summary?: string;
  readonly description?: string;
  readonly security?: readonly unknown[];
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: { readonly required?: boolean; readonly content: Content };
  readonly responses: Readonly<
    Record<string, {
      readonly description?: string;
      readonly headers?: Readonly<Record<string, { readonly description?: string }>>;
      readonly content?: Content;
    }>
  >;
}

/** The parts of an OpenAPI document that the page shows. */
export interface ReferenceDocument {
  readonly info: { readonly title: string; readonly version: string; readonly description?: string };
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components?: { readonly schemas?: Readonly<Record<string, Schema>> };
}

const OWN_STYLE = STYLE + REFERENCE_STYLE;

/** The reference page's content security policy: only its own style. */
export const REFERENCE_POLICY =
  "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; img-src data:; " +
  `style-src 'sha256-${createHash("sha256").update(OWN_STYLE).digest("base64")}'`;

/** Renders the page. */
export async function renderReference(document: ReferenceDocument): Promise<string> {
  const { info, paths, components } = document;
  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({
      path,
      method: method.toUpperCase(),
      ...operation,
    }))
  );
  const schemas = Object.entries(components?.schemas ?? {});
  return String(
    await html`
      <!doctype html>
      <html lang="en">
        <head>
          <meta charset="utf-8">
          <meta name="viewport" content="width=device-width, initial-scale=1">
          <title>${info.title}: HTTP API</title>
          <link rel="icon" href="data:,">
          <style>${raw(OWN_STYLE)}</style>
        </head>
        <body>
          <a class="skip" href="#main">Skip to the content</a>
          <header>
            <div class="bar"><span class="brand">${info.title}</span><nav aria-label="Parts of this page"><ul>
      <li><a href="#endpoints">Endpoints</a></li><li><a href="#schemas">Schemas</a></li>
      <li><a href="openapi.json">OpenAPI document</a></li></ul></nav><span>${info.version}</span></div>
          </header>
          <main id="main">
      <h1>HTTP API</h1>
      <p>${words(info.description)}</p>
      <ul class="contents">${operations.map(({ operationId, method, path }) =>
        html`<li><a href="#${operationId}">${method} ${path}</a></li>`
      )}</ul>
      <h2 id="endpoints">Endpoints</h2>
      ${operations.map(operationView)}
      <h2 id="schemas">Schemas</h2>
      ${schemas.map(([name, schema]) =>
        html`<section aria-labelledby="schema-${name}"><h3 id="schema-${name}">${name}</h3>
${membersView(schema)}</section>`
      )}
          </main>
        </body>
      </html>
    `,
  );
}

function operationView(
  { path, method, ...operation }: Operation & { readonly path: string; readonly method: string },
): Html {
  const { operationId, summary, description, security, parameters = [], requestBody, responses } = operation;
  return html`<section aria-labelledby="${operationId}">
<h3 id="${operationId}"><span class="method">${method}</span> <code>${path}</code></h3>
<p>${words(summary)}. ${words(description)}</p>
${security === undefined ? "" : html`<p>Needs <code>Authorization: Bearer</code> and a key.</p>`}
${
    parameters.length === 0 ? "" : table(
      "Parameters",
      ["Name", "In", "Type", "Meaning"],
      parameters.map((given) => [
        html`<code>${given.name}</code>${given.required === true ? " (required)" : ""}`,
        given.in,
        typeText(given.schema ?? {}),
        meaning(given.schema ?? {}, given.description),
      ]),
    )
  }
${
    requestBody === undefined
      ? ""
      : html`<h4>Body${requestBody.required === true ? "" : ", which may be left out"}</h4>
<p>${contentText(requestBody.content)}</p>`
  }
${
    table(
      "Answers",
      ["Status", "Meaning", "Body"],
      Object.entries(responses).map(([status, answer]) => [
        status,
        html`${words(answer.description)}${
          Object.entries(answer.headers ?? {}).map(([name, header]) =>
            html`<br><code>${name}</code>: ${words(header.description)}`
          )
        }`,
        answer.content === undefined ? "" : contentText(answer.content),
      ]),
    )
  }
</section>`;
}

function contentText(content: Content): Html {
  return html`${
    Object.entries(content).map(([type, { schema }], at) =>
      html`${at === 0 ? "" : html`<br>`}<code>${type}</code> ${typeText(schema ?? {})}`
    )
  }`;
}

function membersView(schema: Schema): Html {
  const { properties } = merged(schema);
  if (properties === undefined) return html`<p>${typeText(schema)} ${meaning(schema)}</p>`;
  const required = new Set(merged(schema).required ?? []);
  return html`${schema.description === undefined ? "" : html`<p>${words(schema.description)}</p>`}
${
    table(
      "Members",
      ["Name", "Type", "Meaning"],
      Object.entries(properties).map(([name, member]) => [
        html`<code>${name}</code>${required.has(name) ? "" : " (optional)"}`,
        typeText(member),
        meaning(member),
      ]),
    )
  }`;
}

/** An object's members, including those it inherits. */
function merged(schema: Schema): Pick<Schema, "properties" | "required"> {
  const own = schema.allOf?.filter(({ $ref }) => $ref === undefined) ?? [];
  if (own.length === 0) return schema;
  return {
    properties: Object.assign({}, ...own.map(({ properties = {} }) => properties)),
    required: own.flatMap(({ required = [] }) => required),
  };
}

function table(
  caption: string,
  heads: readonly string[],
  rows: readonly (readonly (Html | string)[])[],
): Html {
  return html`
    <h4>${caption}</h4>
    <div class="scroll">
      <table>
        <thead>
          <tr>${heads.map((head) => html`<th scope="col">${head}</th>`)}</tr>
        </thead>
        <tbody>${rows.map((row) => html`<tr>${row.map((cell) => html`<td>${cell}</td>`)}</tr>`)}</tbody>
      </table>
    </div>
  `;
}

/** A schema's type, as a link if it has a name. */
function typeText(schema: Schema): Html {
  const { $ref, items, anyOf, oneOf, allOf, enum: values, properties, additionalProperties } = schema;
  if ($ref !== undefined) {
    const name = $ref.split("/").at(-1) ?? "";
    return html`<a href="#schema-${name}">${name}</a>`;
  }
  const variants = anyOf ?? oneOf;
  if (variants !== undefined) return joined(variants.map(typeText), " or ");
  if (allOf !== undefined) {
    const named = allOf.filter((one) => one.$ref !== undefined);
    return named.length === 0
      ? html`object`
      : html`${joined(named.map(typeText), " and ")}, with more members`;
  }
  if (items !== undefined) return html`list of ${typeText(items)}`;
  if (values !== undefined) {
    return joined(values.map((value) => html`<code>${shownValue(value)}</code>`), ", ");
  }
  if (schema.const !== undefined) return html`<code>${shownValue(schema.const)}</code>`;
  const type = Array.isArray(schema.type) ? schema.type.join(" or ") : String(schema.type ?? "anything");
  if (properties !== undefined) {
    return html`object with ${
      joined(Object.keys(properties).map((name) => html`<code>${name}</code>`), ", ")
    }`;
  }
  if (typeof additionalProperties === "object") return html`object of ${typeText(additionalProperties)}`;
  return html`${type === "integer" ? "whole number" : type === "string" ? "text" : type}`;
}

function joined(parts: readonly Html[], between: string): Html {
  return html`${parts.map((part, at) => html`${at === 0 ? "" : between}${part}`)}`;
}

/** The description and constraints of a schema's values. */
function meaning(schema: Schema, description = schema.description): Html {
  const bounds: string[] = [];
  const range = (from: number | undefined, to: number | undefined, unit: string) => {
    // A number without a bound has the maximum safe integer.
    const top = to === Number.MAX_SAFE_INTEGER ? undefined : to;
    const bottom = from === Number.MIN_SAFE_INTEGER ? undefined : from;
    if (bottom !== undefined && top !== undefined) bounds.push(`${bottom} to ${top}${unit}`);
    else if (bottom !== undefined) bounds.push(`${bottom} or more${unit}`);
    else if (top !== undefined) bounds.push(`at most ${top}${unit}`);
  };
  range(schema.minimum, schema.maximum, "");
  range(schema.minLength, schema.maxLength, " characters");
  range(schema.minItems, schema.maxItems, " items");
  if (schema.format !== undefined) bounds.push(schema.format);
  if (schema.default !== undefined) bounds.push(`default ${shownValue(schema.default)}`);
  return html`${words(description)}${
    bounds.length === 0 ? "" : html`
      <small>(${bounds.join("; ")})</small>
    `
  }${
    schema.example === undefined ? "" : html`
      <small>Example: <code>${shownValue(schema.example)}</code></small>
    `
  }`;
}

function shownValue(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** A description, with text between backticks as code. */
function words(text = ""): Html {
  return html`${text.split("`").map((part, at) => at % 2 === 0 ? part : html`<code>${part}</code>`)}`;
}
