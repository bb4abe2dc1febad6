// Small choices that outlive a visit: theme, language, knobs. Never pictures, results or keys.

const PREFIX = 'steadyocr.';

export function recall(name, fallback = null) {
  try {
    const text = localStorage.getItem(PREFIX + name);
    return text === null ? fallback : text;
  } catch {
    return fallback;
  }
}

/** Whether single readings are to be kept on the server. */
export const keepsHistory = () => recall('history') !== 'off';

export function keep(name, value) {
  try {
    if (value === null) localStorage.removeItem(PREFIX + name);
    else localStorage.setItem(PREFIX + name, value);
  } catch {
    // Private windows may refuse; the choice then lasts as long as the page.
  }
}
