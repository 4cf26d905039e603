/** The browser's database, as stores of values by key. Where it is blocked or full, values last until the page closes. */

/** @typedef {"photos" | "versions" | "desks" | "blobs" | "sizes"} Name */

const DATABASE = "artmancer";
const RELEASE = 1;
/** @type {Name[]} */
const NAMES = ["photos", "versions", "desks", "blobs", "sizes"];

/** Fires `blocked` if the browser keeps nothing, and `full` if a value did not fit. */
export class Store extends EventTarget {
  /** Frees space when the database is full. Returns whether there was something to free. */
  makeRoom = async () => false;
  /** Values that the database does not hold. Nothing: the value was deleted.
   * @type {Map<string, unknown>} */
  #beside = new Map();
  /** @type {Promise<IDBDatabase | null>} */
  #database;

  constructor() {
    super();
    this.#database = open().catch(() => null);
    this.#database.then((database) => database ?? this.dispatchEvent(new Event("blocked")));
  }

  /**
   * @param {Name} name
   * @param {string} key
   * @returns {Promise<any>} undefined if there is none
   */
  async get(name, key) {
    const place = `${name}/${key}`;
    if (this.#beside.has(place)) return this.#beside.get(place);
    return this.#read(name, (store) => store.get(key), undefined);
  }

  /**
   * @param {Name} name
   * @returns {Promise<any[]>}
   */
  async all(name) {
    const beside = [...this.#beside].filter(([place]) => place.startsWith(`${name}/`)).map(([, value]) => value);
    return [...(await this.#read(name, (store) => store.getAll(), [])), ...beside];
  }

  /**
   * @param {Name} name
   * @param {string} key
   * @param {unknown} value
   */
  async put(name, key, value) {
    if (await this.#write(name, (store) => store.put(value, key))) {
      this.#beside.delete(`${name}/${key}`);
      return;
    }
    this.#beside.set(`${name}/${key}`, value);
  }

  /**
   * @param {Name} name
   * @param {string} key
   */
  async remove(name, key) {
    this.#beside.delete(`${name}/${key}`);
    await this.#write(name, (store) => store.delete(key));
  }

  /**
   * @template T
   * @param {Name} name
   * @param {(store: IDBObjectStore) => IDBRequest<T>} ask
   * @param {T} otherwise
   * @returns {Promise<T>}
   */
  async #read(name, ask, otherwise) {
    const database = await this.#database;
    if (!database) return otherwise;
    try {
      return await resultOf(ask(database.transaction(name).objectStore(name)));
    } catch {
      return otherwise; // the browser has deleted the database, or its disk fails
    }
  }

  /**
   * @param {Name} name
   * @param {(store: IDBObjectStore) => IDBRequest} ask
   * @returns {Promise<boolean>} whether it was written
   */
  async #write(name, ask) {
    const database = await this.#database;
    if (!database) return false;
    for (;;) {
      try {
        const transaction = database.transaction(name, "readwrite");
        ask(transaction.objectStore(name));
        transaction.commit(); // without it, the browser drops the write if the person leaves the page a moment later
        await committed(transaction);
        return true;
      } catch (error) {
        const isFull = error instanceof DOMException && error.name === "QuotaExceededError";
        if (isFull && (await this.makeRoom())) continue;
        this.dispatchEvent(new Event("full"));
        return false;
      }
    }
  }
}

/** @returns {Promise<IDBDatabase>} */
async function open() {
  const opening = indexedDB.open(DATABASE, RELEASE);
  opening.onupgradeneeded = () => {
    for (const name of NAMES) opening.result.createObjectStore(name);
  };
  return resultOf(opening);
}

/**
 * @template T
 * @param {IDBRequest<T>} request
 * @returns {Promise<T>}
 */
function resultOf(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/**
 * @param {IDBTransaction} transaction
 * @returns {Promise<void>}
 */
function committed(transaction) {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = transaction.onerror = () => reject(transaction.error);
  });
}
