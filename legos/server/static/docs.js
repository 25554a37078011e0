"use strict";
// The API out of /openapi.json, without outside resources.

function element(tag, classes, text, ...children) {
  const made = document.createElement(tag);
  if (classes) made.className = classes;
  if (text !== undefined) made.textContent = text;
  made.append(...children);
  return made;
}

function sketch(schema, all, depth = 0) {
  if (schema.$ref) return sketch(all[schema.$ref.split("/").pop()], all, depth);
  if (schema.anyOf) return schema.anyOf.map((one) => sketch(one, all, depth)).join(" or ");
  if (schema.type === "array") return `list of ${sketch(schema.items, all, depth + 1)}`;
  if (schema.properties && depth) return `{${Object.keys(schema.properties).join(", ")}}`;
  const bounds = [["minimum", "≥"], ["maximum", "≤"], ["minLength", "length ≥"], ["maxLength", "length ≤"], ["minItems", "entries ≥"], ["maxItems", "entries ≤"]];
  const told = bounds.filter(([key]) => key in schema).map(([key, sign]) => `${sign} ${schema[key]}`);
  return [schema.type || "object", ...told].join(", ");
}

function table(fields) {
  const rows = fields.map(([name, kind, about]) =>
    element("tr", "", undefined, element("td", "", undefined, element("code", "", name)), element("td", "", kind), element("td", "quiet", about)));
  return element("table", "", undefined, ...rows);
}

function fieldsOf(schema, all) {
  const whole = all[schema.$ref.split("/").pop()];
  const must = new Set(whole.required || []);
  return Object.entries(whole.properties || {}).map(([name, field]) =>
    [name, sketch(field, all), [must.has(name) ? "required" : "default" in field && field.default !== null ? `default ${field.default}` : "optional", field.description].filter(Boolean).join("; ")]);
}

const EXAMPLES = {
  "/recommend": { user: "USER", k: 10 },
  "/similar": { item: "ITEM", k: 10 },
  "/reasons": { user: "USER", item: "ITEM" },
  "/score": { users: ["USER"], items: ["ITEM"] },
  "/items": { items: [{ item_id: "new-1", title: "Oak desk lamp" }] },
  "/reload": {},
};

async function show() {
  const api = await (await fetch("/openapi.json")).json();
  const all = api.components.schemas;
  document.getElementById("about").textContent = api.info.description;
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, route] of Object.entries(methods)) {
      const card = element("section", "card", undefined, element("h2", "", `${method.toUpperCase()} ${path}`), element("p", "", route.summary));
      const body = route.requestBody?.content["application/json"].schema;
      const fields = body ? fieldsOf(body, all) : (route.parameters || []).map((one) => [one.name, sketch(one.schema, all), one.required ? "required" : `default ${JSON.stringify(one.schema.default)}`]);
      if (fields.length) card.append(element("h3", "", body ? "Body (JSON)" : "Query"), table(fields));
      const answer = Object.entries(route.responses).find(([status]) => status.startsWith("2"))?.[1].content?.["application/json"]?.schema;
      if (answer?.$ref) card.append(element("h3", "", "Answer"), table(fieldsOf(answer, all)));
      if (method === "post") {
        card.append(element("h3", "", "Example"), element("pre", "", `curl ${location.origin}${path} -H 'Content-Type: application/json' \\\n     -d '${JSON.stringify(EXAMPLES[path] || {})}'`));
      }
      document.getElementById("routes").append(card);
    }
  }
}

show();
