// What `python -m tests.clients` runs beside the clients' packages; it prints a line for each call.
'use strict';

const [, , client, url] = process.argv;
const CARD = { card_number: '5333-1234-5678-1234', expiry: '2030-12', birth: '900101', pwd_2digit: '00' };
const now = Math.floor(Date.now() / 1000);
const DAY = 86400;

// Print whether a call answered with PortOne's data: each client shows them in its own wrapper.
async function made(name, call, inside = (answer) => answer) {
  try {
    const answer = inside(await call());
    console.log(answer ? `made ${name}` : `failed ${name} without data`);
    return answer;
  } catch (error) {
    console.log(`failed ${name} ${error.message}`);
    return {};
  }
}

async function refused(name, call) {
  try {
    await call();
    console.log(`failed ${name} was not refused`);
  } catch (error) {
    console.log(`refused ${name}`);
  }
}

async function iamporter() {
  const { Iamporter } = require('iamporter');
  const shop = new Iamporter({ apiKey: 'sim_key', secret: 'sim_secret', host: url });
  const call = (name, ...args) => made(name, () => shop[name](...args), (answer) => answer.data);
  await call('createSubscription', { customer_uid: 'io', ...CARD });
  await call('getSubscription', 'io');
  await refused('getSubscription', () => shop.getSubscription('none'));
  await call('paySubscription', { customer_uid: 'io', merchant_uid: 'io-1', amount: 1000 });
  await call('payOnetime', { merchant_uid: 'io-2', amount: 500, ...CARD });
  const paid = await call('findByMerchantUid', 'io-1');
  await call('findByImpUid', paid.imp_uid);
  await call('findAllByStatus', 'paid');
  await call('createPreparedPayment', { merchant_uid: 'io-3', amount: 1000 });
  await call('getPreparedPayment', 'io-3');
  await call('cancelByImpUid', paid.imp_uid, { amount: 300 });
  await call('cancelByMerchantUid', 'io-1');
  await refused('cancelByMerchantUid', () => shop.cancelByMerchantUid('io-1'));
  await call('deleteSubscription', 'io');
}

async function iamport() {
  const Iamport = require('iamport');
  Iamport.DEFAULT_HOST = url;
  const shop = new Iamport({ impKey: 'sim_key', impSecret: 'sim_secret' });
  const call = (part, name, asked) => made(`${part}.${name}`, () => shop[part][name](asked));
  const order = { customer_uid: 'im', merchant_uid: 'im-1', amount: 1000 };
  await call('subscribe_customer', 'create', { customer_uid: 'im', ...CARD });
  await call('subscribe_customer', 'get', { customer_uid: 'im' });
  await call('subscribe', 'again', order);
  await refused('subscribe.again', () => shop.subscribe.again(order));
  await call('subscribe', 'onetime', { merchant_uid: 'im-2', amount: 500, ...CARD });
  const later = { merchant_uid: 'im-3', schedule_at: now + DAY, amount: 1000 };
  await call('subscribe', 'schedule', { customer_uid: 'im', schedules: [later] });
  await call('subscribe', 'unschedule', { customer_uid: 'im', merchant_uid: 'im-3' });
  const paid = await call('payment', 'getByMerchant', { merchant_uid: 'im-1' });
  await call('payment', 'getByImpUid', { imp_uid: paid.imp_uid });
  await call('payment', 'getByStatus', { payment_status: 'paid' });
  await call('payment', 'prepare', { merchant_uid: 'im-4', amount: 1000 });
  await call('payment', 'getPrepare', { merchant_uid: 'im-4' });
  await call('payment', 'cancel', { imp_uid: paid.imp_uid });
}

async function restClient() {
  const { Iamport, Request } = require('iamport-rest-client-nodejs');
  const shop = new Iamport({ apiKey: 'sim_key', apiSecret: 'sim_secret', baseUrl: url });
  const call = (part, name, asked) =>
    made(`${part}.${name}`, () => Request[part][name](asked).request(shop), (answer) => answer.data.response);
  const order = { customer_uid: 'rn', merchant_uid: 'rn-1', amount: 1000, name: 'Coffee' };
  await call('Customers', 'postBillingKey', { customer_uid: 'rn', ...CARD });
  await call('Customers', 'getBillingKey', { customer_uid: 'rn' });
  await call('Customers', 'getBillingKeys', { customer_uid: ['rn'] });
  await call('Subscribe', 'again', order);
  await call('Subscribe', 'onetime', { merchant_uid: 'rn-2', amount: 500, ...CARD });
  const later = { merchant_uid: 'rn-3', schedule_at: now + DAY, amount: 1000 };
  await call('Subscribe', 'schedule', { customer_uid: 'rn', schedules: [later] });
  await call('Subscribe', 'getScheduled', { merchant_uid: 'rn-3' });
  await call('Subscribe', 'getScheduleds', { customer_uid: 'rn', from: now, to: now + 2 * DAY });
  await call('Customers', 'getScheduleds', { customer_uid: 'rn', from: now, to: now + 2 * DAY, page: 1 });
  await call('Customers', 'getPayments', { customer_uid: 'rn', page: 1 });
  await call('Subscribe', 'unschedule', { customer_uid: 'rn' });
  // Without a status this client asks for the status "undefined", which is refused.
  const paid = await call('Payments', 'getByMerchantUid', { merchant_uid: 'rn-1', status: 'paid' });
  await call('Payments', 'getByMerchantUids', { merchant_uid: 'rn-1', status: 'paid', page: 1 });
  await call('Payments', 'getByImpUid', { imp_uid: paid.imp_uid });
  await call('Payments', 'getByImpUids', { imp_uid: [paid.imp_uid] });
  await call('Payments', 'getByStatus', { status: 'paid' });
  await call('Payments', 'getAmountByImpUid', { imp_uid: paid.imp_uid });
  await call('Prepare', 'postAmount', { merchant_uid: 'rn-4', amount: 1000 });
  await call('Prepare', 'getAmount', { merchant_uid: 'rn-4' });
  await call('Payments', 'cancel', { imp_uid: paid.imp_uid });
  await call('Customers', 'deleteBillingKey', { customer_uid: 'rn' });
}

({ iamporter, iamport, 'iamport-rest-client-nodejs': restClient })[client]();
