/** @jsxImportSource hono/jsx */
/**
 * Views for users who are not logged in, and for errors.
 *
 * @module
 */
import { type Html, Plain, Wrong } from "../layout.tsx";

/** Asks for a key, or redirects to the identity provider if there is one. */
export function LoginView({ wrong, provider }: {
  readonly wrong?: string;
  /** The provider's host name. */
  readonly provider?: string | undefined;
}): Html {
  return (
    <Plain title="Log in">
      {wrong !== undefined && <p class="note wrong" role="alert" id="wrong">{wrong}</p>}
      {provider !== undefined && (
        <>
          <a class="button wide" href="/page/login/provider">Continue with {provider}</a>
          <p class="or">
            <span>or with a key</span>
          </p>
        </>
      )}
      <form class="stack" method="post" action="/page/login">
        <label>
          Admin key
          <input
            type="password"
            name="key"
            required
            autofocus
            autocomplete="current-password"
            aria-describedby={wrong === undefined ? "key-hint" : "wrong key-hint"}
            aria-invalid={wrong === undefined ? undefined : "true"}
          />
          <small id="key-hint">Or an API key with the scope read or admin.</small>
        </label>
        <button type="submit" class="wide">Log in</button>
      </form>
    </Plain>
  );
}

/**
 * Continues to the overview. A redirect wouldn't work: after a cross-site redirect the browser withholds the cookie.
 */
export function WelcomeView(): Html {
  return (
    <Plain title="You are logged in">
      <meta http-equiv="refresh" content="0;url=/" />
      <p>
        <a class="button wide" href="/">Go to the overview</a>
      </p>
    </Plain>
  );
}

/** An error, for a user who may or may not be logged in. */
export function ErrorView({ detail, requestId }: {
  readonly detail: string;
  readonly requestId: string | undefined;
}): Html {
  return (
    <Plain title="This did not work">
      <Wrong>{detail}</Wrong>
      {requestId !== undefined && (
        <p class="faint">
          Request <code>{requestId}</code>, as the log has it.
        </p>
      )}
      <p>
        <a class="button wide" href="/">Back to the overview</a>
      </p>
    </Plain>
  );
}
