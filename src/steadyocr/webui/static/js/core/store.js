// Small choices that outlive a visit: theme, language, knobs. Never pictures, results or keys.

const PREFIX = 'steadyocr.';

// Private windows may refuse, and so does a full store; a choice then lasts as long as the page.
const chosen = {};

export function recall(name, fallback = null) {
  try {
    return chosen[name] ?? localStorage.getItem(PREFIX + name) ?? fallback;
  } catch {
    return chosen[name] ?? fallback;
  }
}

/** Whether single readings are to be kept on the server. */
export const keepsHistory = () => recall('history') !== 'off';

export function keep(name, value) {
  try {
    chosen[name] = null;
    if (value === null) localStorage.removeItem(PREFIX + name);
    else localStorage.setItem(PREFIX + name, value);
  } catch {
    chosen[name] = value;
  }
}
