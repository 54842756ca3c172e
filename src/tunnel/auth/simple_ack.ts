/**
 * snocat's simple-ack, which authenticates no one: the tunnel's name is the peer's address and port.
 *
 * @module
 */
import { checkSimpleAck, encodeSimpleAck } from "../../wire/snocat/simple_ack.ts";
import { unauthorized } from "./negotiate.ts";
import type { Authenticator, TunnelCredential } from "./port.ts";
import { formatHostPort } from "../../wire/ip/host_port.ts";

const METHOD = "simple-ack";

/** Accepts every peer; for trusted networks. */
export function simpleAckAuthenticator(): Authenticator {
  return {
    method: METHOD,
    async verify(steps, { remote }) {
      steps.send(encodeSimpleAck("hello"));
      if (!checkSimpleAck("answer", await steps.receive())) throw unauthorized("its answer is too short");
      return { name: formatHostPort(remote) };
    },
  };
}

/** Answers simple-ack. */
export function simpleAckCredential(): TunnelCredential {
  return {
    method: METHOD,
    async prove(steps) {
      if (!checkSimpleAck("hello", await steps.receive())) throw unauthorized("the greeting is too short");
      steps.send(encodeSimpleAck("answer"));
    },
  };
}
