// Two people meet in the room of the example `chat`, each in a window of Chromium.
//
//     node chat.mjs PAGE_URL SCREENSHOT_PREFIX
//
// Leaves SCREENSHOT_PREFIX-wide.png, light, and SCREENSHOT_PREFIX-narrow.png, dark.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

const { chromium } = createRequire(import.meta.url)('playwright-core');

const [pageUrl, screenshots] = process.argv.slice(2);

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

const errors = [];
const strangers = [];

async function visitor(name, options) {
  const page = await browser.newPage(options);
  page.setDefaultTimeout(10_000);
  page.on('pageerror', (error) => errors.push(error.message));
  page.on('dialog', (dialog) => {
    errors.push(`a dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on('request', (request) => {
    if (new URL(request.url()).origin !== new URL(pageUrl).origin) strangers.push(request.url());
  });
  // Sockets that the test can cut.
  await page.addInitScript(() => {
    const Original = WebSocket;
    window.sockets = [];
    window.WebSocket = class extends Original {
      constructor(...rest) {
        super(...rest);
        window.sockets.push(this);
      }
    };
  });
  const answer = await page.goto(pageUrl);
  assert.equal(answer.status(), 200);
  await page.getByLabel('Your name').fill(name);
  await page.getByLabel('Room').fill('tea & cake / ünï');
  await page.keyboard.press('Enter');
  await page.locator('#status.open').waitFor();
  return page;
}

async function say(page, text) {
  await page.getByLabel('Message', { exact: true }).fill(text);
  await page.keyboard.press('Enter');
}

async function sees(page, text, kind) {
  await page.locator(`#log > .${kind}`, { hasText: text }).first().waitFor();
}

const MARKUP = '<img src=x onerror="alert(1)"><script>alert(2)</script>';

try {
  const anna = await visitor('Anna', { viewport: { width: 1100, height: 720 }, colorScheme: 'light' });
  await sees(anna, 'Anna has joined, 1 in the room', 'news');
  const bert = await visitor('Bert: the <b>2nd</b>', {
    viewport: { width: 390, height: 780 }, colorScheme: 'dark',
  });
  await step('both see who has joined', async () => {
    await sees(anna, 'Bert the <b>2nd</b> has joined, 2 in the room', 'news');
    await sees(bert, '2 in the room', 'news');
  });
  await step('they chat', async () => {
    await say(anna, 'Hello, who is there?');
    await sees(bert, 'Hello, who is there?', 'said');
    await sees(anna, 'Hello, who is there?', 'own');
    await say(bert, 'It is me: Bert. 👋');
    await sees(anna, 'It is me: Bert. 👋', 'said');
    assert.equal(await anna.locator('#log > .own').count(), 1);
    assert.equal(await anna.locator('#log b').last().textContent(), 'Bert the <b>2nd</b>');
  });
  await step('markup is only text', async () => {
    await say(bert, MARKUP);
    await sees(anna, MARKUP, 'said');
    for (const page of [anna, bert]) {
      assert.equal(await page.locator('#log img, #log script, #log b b').count(), 0);
    }
  });
  await step('long words and many lines stay inside', async () => {
    await say(anna, 'x'.repeat(300));
    await sees(bert, 'xxx', 'said');
    await anna.screenshot({ path: `${screenshots}-wide.png` });
    await bert.screenshot({ path: `${screenshots}-narrow.png` });
    for (let n = 1; n <= 20; n += 1) await say(bert, `line ${n}`);
    await sees(anna, 'line 20', 'said');
    await sees(bert, 'line 20', 'own');
    for (const page of [anna, bert]) {
      const spill = await page.evaluate(() => {
        const { scrollWidth, scrollHeight } = document.documentElement;
        return [scrollWidth - innerWidth, scrollHeight - innerHeight];
      });
      assert.ok(spill.every((pixels) => pixels <= 0), `it spills by ${spill}`);
      const log = page.locator('#log');
      assert.ok(await log.evaluate((it) => it.scrollHeight - it.scrollTop - it.clientHeight < 2));
    }
  });
  await step('who is cut off comes back by itself', async () => {
    await bert.evaluate(() => window.sockets[0].close(3000));
    await sees(anna, 'Bert the <b>2nd</b> has left', 'news');
    await anna.locator('#log > .news', { hasText: 'Bert the <b>2nd</b> has joined' }).nth(1).waitFor();
    await say(bert, 'back again');
    await sees(anna, 'back again', 'said');
  });
  await step('who goes has left', async () => {
    await bert.close();
    await anna.locator('#log > .news', { hasText: 'has left' }).nth(1).waitFor();
  });
  assert.deepEqual(errors, [], 'the page threw');
  assert.deepEqual(strangers, [], 'the page asked somebody else');
} finally {
  await browser.close();
}
