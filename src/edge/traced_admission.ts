/**
 * Traces the admission of agents: a span from a valid token to the session, or to the refusal.
 *
 * @module
 */
import type { OpenedToken } from "../protocol/token/token_reader.ts";
import type { Span, Tracer } from "../telemetry/tracing.ts";
import type { AgentAdmission } from "../transport/admission.ts";
import { printableName } from "../wire/hostname.ts";

/** The same admission with spans. Strangers, who show no valid token, have none. */
export function tracedAdmission(
  admission: AgentAdmission,
  tracer: Tracer | undefined,
  transport: string,
): AgentAdmission {
  if (tracer === undefined) return admission;
  const spans = new WeakMap<OpenedToken, Span>();
  return {
    ...admission,
    authorize(token, remote) {
      spans.set(
        token,
        tracer.start("agent admission", "server", {
          "client.address": remote.host,
          "sallyport.hostname": printableName(token.claims.hostname),
          "sallyport.transport": transport,
        }),
      );
      return admission.authorize(token, remote);
    },
    admit(token, session, remote) {
      const handler = admission.admit(token, session, remote);
      spans.get(token)?.end();
      return handler;
    },
    refused(error, token, remote, known) {
      if (token !== undefined) spans.get(token)?.end({ "error.type": error.code }, error.message);
      admission.refused(error, token, remote, known);
    },
  };
}
