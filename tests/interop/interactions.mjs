// The pages on which a person signs in and allows or denies: plain forms, no scripts, and nothing
// loaded from anywhere (the ones that come with oidc-provider fetch fonts from the network).

import { errors } from "oidc-provider";

const escapes = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
const escaped = (text) => String(text).replace(/[&<>"']/g, (character) => escapes[character]);

const style = `
  body { font: 1rem/1.5 system-ui, sans-serif; color: #1b1f24; background: #eef1f5; margin: 0 }
  main { max-width: 22rem; margin: 4rem auto; padding: 2rem; background: #fff; border-radius: .75rem }
  h1 { margin: 0 0 1rem; font-size: 1.5rem }
  label { display: block; font-weight: 600 }
  input { box-sizing: border-box; width: 100%; margin: .25rem 0 1rem; padding: .5rem; font: inherit; border: 1px solid #6b7480; border-radius: .4rem }
  button { padding: .5rem 1.25rem; font: inherit; font-weight: 600; color: #0b4fa8; background: #fff; border: 1px solid #0b4fa8; border-radius: .4rem }
  button.main { color: #fff; background: #0b4fa8 }
  :focus-visible { outline: 3px solid #f0a500; outline-offset: 2px }`;

const headers = {
  "content-type": "text/html; charset=utf-8",
  "cache-control": "no-store",
  // Makes sure that nothing is loaded. No `form-action`: Chromium applies it to where a form's
  // answer redirects, too, and that is the application.
  "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
};

const page = (title, body) => `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(title)}</title>
<style>${style}
</style>
</head>
<body>
<main>
<h1>${escaped(title)}</h1>
${body}
</main>
</body>
</html>
`;

// Without an action a form goes back to the page's own address, to which its cookie is bound.
const login = () => `<form method="post" autocomplete="off">
<label for="login">Name</label>
<input id="login" name="login" required autofocus>
<label for="password">Password</label>
<input id="password" name="password" type="password">
<button id="submit" name="decision" value="login" class="main">Sign in</button>
<button id="abort" name="decision" value="abort" formnovalidate>Cancel</button>
</form>`;

const consent = ({ params, session }) => `<p><strong>${escaped(params.client_id)}</strong> asks <strong>${escaped(session.accountId)}</strong> for:</p>
<ul id="scopes">${(params.scope?.split(" ") ?? []).map((scope) => `<li>${escaped(scope)}</li>`).join("")}</ul>
<form method="post">
<button id="allow" name="decision" value="allow" class="main">Allow</button>
<button id="abort" name="decision" value="abort">Deny</button>
</form>`;

const problem = ({ error, error_description }) =>
  page("This didn't work", `<p id="error">${escaped(error)}: ${escaped(error_description ?? "")}</p>`);

/** For oidc-provider's `renderError`: a problem that must not be sent to the application. */
export function errorPage(context, problemFound) {
  context.set(headers);
  context.body = problem(problemFound);
}

async function form(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return new URLSearchParams(Buffer.concat(chunks).toString());
}

/** Grants what was asked for and isn't granted yet. */
async function granted(provider, { grantId, session, params, prompt: { details } }) {
  const grant =
    (grantId && (await provider.Grant.find(grantId))) ||
    new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  if (details.missingOIDCScope) grant.addOIDCScope(details.missingOIDCScope.join(" "));
  if (details.missingOIDCClaims) grant.addOIDCClaims(details.missingOIDCClaims);
  for (const [resource, scopes] of Object.entries(details.missingResourceScopes ?? {})) {
    grant.addResourceScope(resource, scopes.join(" "));
  }
  return grant.save();
}

/** What a submitted form means to oidc-provider; undefined if it isn't the form that was shown. */
async function result(provider, interaction, fields) {
  const [prompt, decision] = [interaction.prompt.name, fields.get("decision")];
  if (decision === "abort") {
    return { error: "access_denied", error_description: "the user said no" };
  }
  if (prompt === "login" && fields.get("login")) return { login: { accountId: fields.get("login") } };
  if (prompt === "consent" && decision === "allow") {
    return { consent: { grantId: await granted(provider, interaction) } };
  }
}

async function answered(provider, request, response) {
  const interaction = await provider.interactionDetails(request, response);
  if (request.method === "GET") {
    const shown =
      interaction.prompt.name === "login"
        ? page("Sign in", login())
        : page("Allow access?", consent(interaction));
    return response.writeHead(200, headers).end(shown);
  }
  const decided = await result(provider, interaction, await form(request));
  if (!decided) throw new errors.InvalidRequest("not what the page's form sends");
  return provider.interactionFinished(request, response, decided);
}

/** Answers the requests below `/interaction/`. */
export async function interact(provider, request, response) {
  try {
    await answered(provider, request, response);
  } catch (error) {
    if (!error.expose) console.error(error);
    const { message, error_description } = error;
    response.writeHead(error.status ?? 500, headers).end(problem({ error: message, error_description }));
  }
}
