/**
 * The JSON Schema of the configuration file, for completion and checking in editors.
 *
 * @module
 */
import { z } from "zod";
import { servicesSchema } from "./services.ts";
import type { Setting } from "./setting.ts";
import { SETTINGS } from "./settings.ts";

/** The schema, derived from those that validate the settings and the services. */
export function configJsonSchema(): Record<string, unknown> {
  const properties: Record<string, unknown> = {};
  for (const { member, description, many, default: standard } of Object.values<Setting>(SETTINGS)) {
    if (member === SETTINGS.config.member) continue;
    const one = { type: ["string", "number"] };
    properties[member] = {
      description,
      ...many ? { anyOf: [one, { type: "array", items: one }] } : one,
      ...standard === undefined ? {} : { default: standard },
    };
  }
  const services = z.toJSONSchema(servicesSchema, { io: "input", target: "draft-7" });
  delete services.$schema;
  return {
    $schema: "http://json-schema.org/draft-07/schema#",
    title: "Sallyport's configuration file",
    type: "object",
    properties: {
      $schema: { type: "string", description: "Where this schema is, for editors." },
      ...properties,
      services: { description: "The agent's services.", ...services },
    },
    additionalProperties: false,
  };
}
