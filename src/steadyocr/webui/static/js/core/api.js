// The one way to the server: the key, typed errors, waiting when it is busy. Paths are relative, so any prefix works.

import { sentenceOf, t } from './i18n.js';

const KEY_NAME = 'steadyocr.key';
// Pauses between tries when the server does not say, in seconds; and how often at most.
const PAUSE_S = 2;
const MAX_PAUSE_S = 60;
const MAX_TRIES = 60;
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

/** Send a request; returns the Response when it is a good one, throws an ApiError otherwise. */
export async function request(path, { method = 'GET', json, body, headers, signal } = {}) {
  const content = json === undefined ? body : JSON.stringify(json);
  const typed = json === undefined ? headers : { 'Content-Type': 'application/json', ...headers };
  let answer;
  try {
    answer = await fetch(path, { method, body: content, headers: headersWithKey(typed), signal });
  } catch (error) {
    if (signal?.aborted) throw error;
    heard(0);
    throw unreachable();
  }
  heard(answer.status);
  if (!answer.ok) throw errorOf(answer.status, await answer.text(), answer.headers.get('Retry-After'));
  return answer;
}

export const getJson = async (path, options) => (await request(path, options)).json();
export const post = (path, json = {}, options = {}) => getJson(path, { method: 'POST', json, ...options });

/** A picture of the server's as a blob URL, so that the key goes along; whoever asks revokes it. */
export async function objectUrl(path, signal) {
  return URL.createObjectURL(await (await request(path, { signal })).blob());
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
      heard(call.status);
      if (call.status < 300) resolve(JSON.parse(call.responseText));
      else reject(errorOf(call.status, call.responseText, call.getResponseHeader('Retry-After')));
    });
    call.addEventListener('error', () => {
      heard(0);
      reject(unreachable());
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
