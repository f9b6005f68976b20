// Uses the program's page as a person would, in Chromium.
//
//     node browser.mjs PAGE_URL SCREENSHOT
//
// The page has #url #connect #disconnect #message #send #file #log #status #plot. #log gets one child
// for each frame, of class `sent` or `received`; #status says "connected" while that is so, and
// something that does not begin like this otherwise.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

const { chromium } = createRequire(import.meta.url)('playwright-core');

const [pageUrl, screenshot] = process.argv.slice(2);
const GREETING = 'grüße, corewire 👋';
const FILE_BYTES = 70_000;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
  ],
});

async function step(name, action) {
  await action();
  console.log(`  ${name}: ok`);
}

try {
  // Over https the certificate of a test is nobody's whom the browser knows.
  const page = await browser.newPage({ ignoreHTTPSErrors: true });
  page.setDefaultTimeout(10_000);
  const errors = [];
  const strangers = [];
  page.on('pageerror', (error) => errors.push(error.message));
  page.on('request', (request) => {
    if (new URL(request.url()).origin !== new URL(pageUrl).origin) strangers.push(request.url());
  });
  const connected = page.locator('#status').filter({ hasText: /^\s*connected/i });
  const frames = (direction) => page.locator(`#log > .${direction}`);

  await step('the page is there', async () => {
    const answer = await page.goto(pageUrl);
    assert.equal(answer.status(), 200);
    for (const id of ['url', 'connect', 'disconnect', 'message', 'send', 'file', 'log', 'status', 'plot']) {
      assert.equal(await page.locator(`#${id}`).count(), 1, `#${id}`);
    }
    assert.equal(await connected.count(), 0, 'connected before anyone asked');
  });
  await step('it connects', async () => {
    const scheme = pageUrl.startsWith('https:') ? /^wss:/ : /^ws:/;
    assert.match(await page.inputValue('#url'), scheme);
    await page.click('#connect');
    await connected.waitFor();
  });
  await step('it echoes text', async () => {
    await page.fill('#message', GREETING);
    await page.click('#send');
    await frames('sent').filter({ hasText: GREETING }).first().waitFor();
    await frames('received').filter({ hasText: GREETING }).first().waitFor();
  });
  await step('it echoes a file', async () => {
    const before = await frames('received').count();
    const buffer = Buffer.alloc(FILE_BYTES, 'corewire');
    await page.setInputFiles('#file', { name: 'a.bin', mimeType: 'application/octet-stream', buffer });
    await frames('received').nth(before).waitFor();
  });
  await page.screenshot({ path: screenshot, fullPage: true });
  await step('it disconnects', async () => {
    await page.click('#disconnect');
    await connected.waitFor({ state: 'detached' });
  });
  assert.deepEqual(errors, [], 'the page threw');
  assert.deepEqual(strangers, [], 'the page asked somebody else');
} finally {
  await browser.close();
}
