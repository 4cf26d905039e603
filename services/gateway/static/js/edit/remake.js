/** Makes a result again that browser and server have lost: the same stroke on the same photo gives the same picture. */

import { expirySentence, jobSentence, PlainError } from "../page/failures.js";
import { submitJob } from "../server/api.js";
import { Job, waitForEnd } from "../server/job.js";
import { randomKey } from "../server/runs.js";
import { Upload, withStored } from "../server/upload.js";

/**
 * @typedef {import("../kept/history.js").Entry} Entry
 * @typedef {import("../kept/vault.js").Vault} Vault
 * @typedef {import("../photo/photo.js").Photo} Photo
 */

/**
 * Run a removal at the release of the brush again, and return the name of its result on the server.
 * Throws ApiError or PlainError.
 * @param {Entry} entry
 * @param {Photo} before  that the edit began from; it may also be made again
 * @param {Vault} vault
 * @returns {Promise<string>}
 */
export async function remake({ task, mask, settings }, before, vault) {
  if (!mask) throw new PlainError(expirySentence());
  const order = { task, ...settings, mask_tool: "brush", class: "interactive" };
  const { id, links } = await withStored([before.upload, new Upload(() => vault.image(mask), mask)], (image, masked) =>
    submitJob({ ...order, image, mask: masked }, randomKey()),
  );
  const job = new Job(id, links.events);
  job.follow();
  await waitForEnd(job);
  if (!job.standing.result) throw new PlainError(jobSentence(job.standing.error));
  return job.standing.result;
}
