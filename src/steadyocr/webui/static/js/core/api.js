// The one way to the server: the key, typed errors, waiting when it is busy. Paths are relative, so any prefix works.

import { sentenceOf, t } from './i18n.js';

const KEY_NAME = 'steadyocr.key';
// Pauses between tries when the server does not say, in seconds; and how often at most.
const PAUSE_S = 2;
const MAX_PAUSE_S = 60;
const MAX_TRIES = 60;
// A server that has not begun to answer by then does not answer.
const ANSWER_S = 30;
const WAITING_STATUS = new Set([429, 502, 503]);

export const signals = new EventTarget();

let memoryKey = '';

/** The API key; kept for this tab only. */
export const apiKey = {
  get() {
    try {
      return sessionStorage.getItem(KEY_NAME) ?? memoryKey;
    } catch {
      return memoryKey;
    }
  },
  set(key) {
    memoryKey = key;
    try {
      sessionStorage.setItem(KEY_NAME, key);
    } catch {
      // Then it lasts until the page goes.
    }
  },
};

/** What the server refused, and why. */
export class ApiError extends Error {
  constructor(status, body, retryAfter) {
    super(body.detail ?? `HTTP ${status}`);
    this.status = status;
    this.code = body.code ?? 'error';
    this.body = body;
    this.retryAfter = retryAfter;
  }

  /** Whether waiting helps. */
  get waits() {
    return WAITING_STATUS.has(this.status) || this.status === 0;
  }

  /** Whether it may be over at the next look: the fault of the server or of some proxy, not of what was asked. */
  get passes() {
    return this.status >= 500 || this.retryable;
  }

  /** Whether trying again may help: a bad picture stays one. */
  get retryable() {
    return this.body.retryable ?? (this.status === 0 || this.status >= 500);
  }

  /** The sentence for a person. */
  get sentence() {
    return sentenceOf(this.code, this.body) ?? this.message;
  }
}

const unreachable = () => new ApiError(0, { code: 'unreachable', detail: t('error.unreachable') }, PAUSE_S);

/** A module that is loaded when it is needed. While the server is down it cannot be. */
export async function late(load) {
  try {
    return await load();
  } catch {
    heard(0);
    throw unreachable();
  }
}

function headersWithKey(headers = {}) {
  const key = apiKey.get();
  return key ? { ...headers, Authorization: `Bearer ${key}` } : headers;
}

/** What an answer says. Some proxy's page is none, whatever its status. */
function parsed(status, text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new ApiError(status, { retryable: true });
  }
}

function errorOf(status, text, retryAfter) {
  let body = {};
  try {
    body = JSON.parse(text);
  } catch {
    // A probe's word, or a proxy's page: its status says enough.
    if (text.length < 200 && !text.startsWith('<')) body = { detail: text.trim() };
  }
  const seconds = Number.parseFloat(retryAfter ?? '');
  return new ApiError(status, body, Number.isFinite(seconds) ? Math.min(seconds, MAX_PAUSE_S) : PAUSE_S);
}

function heard(status) {
  signals.dispatchEvent(new CustomEvent(status === 0 ? 'lost' : 'found'));
  if (status === 401) signals.dispatchEvent(new CustomEvent('key'));
}

/**
 * Send a request; returns the Response when it is a good one, throws an ApiError otherwise. The answer has to begin
 * within `limitS` seconds; 0 waits for ever, as what sends or reads pictures does.
 */
export async function request(path, { method = 'GET', json, body, headers, signal, limitS = body || json?.recognise ? 0 : ANSWER_S } = {}) {
  const content = json === undefined ? body : JSON.stringify(json);
  const typed = json === undefined ? headers : { 'Content-Type': 'application/json', ...headers };
  const overdue = new AbortController();
  const alarm = limitS && setTimeout(() => overdue.abort(), limitS * 1000);
  const either = signal ? AbortSignal.any([signal, overdue.signal]) : overdue.signal;
  let answer;
  try {
    answer = await fetch(path, { method, body: content, headers: headersWithKey(typed), signal: either });
  } catch (error) {
    if (signal?.aborted) throw error;
    heard(0);
    throw unreachable();
  } finally {
    clearTimeout(alarm);
  }
  heard(answer.status);
  if (!answer.ok) throw errorOf(answer.status, await answer.text(), answer.headers.get('Retry-After'));
  return answer;
}

export async function getJson(path, options) {
  const answer = await request(path, options);
  return parsed(answer.status, await answer.text());
}

export const post = (path, json = {}, options = {}) => getJson(path, { method: 'POST', json, ...options });

/** A picture of the server's as a blob URL, so that the key goes along; whoever asks revokes it. */
export async function objectUrl(path, signal) {
  return URL.createObjectURL(await (await request(path, { signal })).blob());
}

/** The error for a picture that the browser itself cannot read: a changed, moved or locked file, a folder. */
async function unreadable(body) {
  for (const file of body instanceof FormData ? body.values() : [body]) {
    try {
      await file.slice(0, 1).arrayBuffer();
    } catch {
      return new ApiError(400, { code: 'unreadable_file', name: file.name, retryable: false });
    }
  }
  return null;
}

/** Upload with progress. `onProgress` gets a share of 1; resolves to the parsed answer. */
export function upload(path, body, { headers, onProgress, signal } = {}) {
  return new Promise((resolve, reject) => {
    const call = new XMLHttpRequest();
    call.open('POST', path);
    for (const [name, value] of Object.entries(headersWithKey(headers))) call.setRequestHeader(name, value);
    call.upload.addEventListener('progress', (event) => {
      if (event.lengthComputable) onProgress?.(event.loaded / event.total);
    });
    call.upload.addEventListener('load', () => onProgress?.(1));
    call.addEventListener('load', () => {
      const { status, responseText: text } = call;
      heard(status);
      try {
        if (status >= 300) throw errorOf(status, text, call.getResponseHeader('Retry-After'));
        resolve(parsed(status, text));
      } catch (error) {
        reject(error);
      }
    });
    // A file that cannot be read looks like a server that is gone, and would be sent again for ever.
    call.addEventListener('error', async () => {
      const error = await unreadable(body);
      if (!error) heard(0);
      reject(error ?? unreachable());
    });
    call.addEventListener('abort', () => reject(new DOMException('given up', 'AbortError')));
    signal?.addEventListener('abort', () => call.abort(), { once: true });
    call.send(body);
  });
}

/** Wait, unless given up. */
export function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const give = () => {
      clearTimeout(timer);
      reject(new DOMException('given up', 'AbortError'));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', give);
      resolve();
    }, seconds * 1000);
    if (signal?.aborted) give();
    signal?.addEventListener('abort', give, { once: true });
  });
}

/**
 * Do something as soon as the server can: "busy" is a wait and not an error. Each wait is announced with the
 * error and the seconds until the next try; a missing key is asked for and waited for.
 */
export async function patiently(work, { onWait, signal }) {
  for (let tries = 1; ; tries += 1) {
    try {
      return await work();
    } catch (error) {
      // A server that does not answer at all is waited for as long as somebody wants to.
      if (!(error instanceof ApiError) || (tries >= MAX_TRIES && error.status)) throw error;
      if (error.status === 401) await keyGiven(signal);
      else if (!error.waits) throw error;
      else {
        onWait?.(error, error.retryAfter);
        await pause(error.retryAfter, signal);
      }
    }
  }
}

function keyGiven(signal) {
  return new Promise((resolve, reject) => {
    signals.addEventListener('key-given', resolve, { once: true, signal });
    signal?.addEventListener('abort', () => reject(new DOMException('given up', 'AbortError')), { once: true });
  });
}

export const isAbort = (error) => error?.name === 'AbortError';
