// Records a decision over gRPC and reads it back. How to run it: README.md.

import { readFileSync } from "node:fs";

import { DecisionGraph, Refused } from "./client.js";
import type { EventInit } from "./client.js";

/** The service that the environment names, or that of `make run`. */
function connect(): DecisionGraph {
  const { DG_SERVER: server, DG_API_KEY: apiKey, DG_TOKEN: token } = process.env;
  const named = apiKey ? { apiKey } : token ? { tokens: { reader: token, writer: token } } : undefined;
  if (server) {
    if (named === undefined) throw new Error("DG_SERVER is set, so set DG_API_KEY or DG_TOKEN too");
    const local = /^(127\.0\.0\.1|localhost|\[::1\]):/.test(server);
    return new DecisionGraph(`${local ? "http" : "https"}://${server}`, named);
  }
  let running: { grpc: string; tokens: { reader: string; writer: string } };
  try {
    running = JSON.parse(readFileSync("../../.run/service.json", "utf8"));
  } catch {
    throw new Error("no service: start one with `make run`, or set DG_SERVER, and DG_API_KEY or DG_TOKEN");
  }
  return new DecisionGraph(`http://${running.grpc}`, named ?? running);
}

/** The events of a refund over the limit: each is appended when it happens, here one after another. */
function decision(number: string): EventInit[] {
  const traceId = `refund-${number}`;
  const bot = { actorType: "agent", actorId: "refund-bot" };
  const huber = { actorType: "person", actorId: "m.huber" };
  const policy = { policyId: "refund_limit", policyVersion: "2026-02" };
  const order = { entityType: "order", entityId: `A-${number}`, system: "shop" };
  const violation = { code: "amount_over_limit", message: "240.00 EUR is over the limit of 200.00 EUR" };
  const amount = { type: "decimal", value: "240.00" };

  // The same refund always has the same keys: sent again, whenever and by whomever, nothing is stored twice.
  const event = (key: string, actor: typeof bot, content: NonNullable<EventInit["content"]>): EventInit => ({
    traceId,
    occurredAt: new Date().toISOString(),
    source: { producerId: "refund-agent", system: "support" },
    actor,
    idempotencyKey: `${traceId}/${key}`,
    content,
  });

  return [
    event("start", bot, {
      case: "traceStarted",
      value: {
        workflow: "refund",
        title: "Refund of 240 EUR for a damaged espresso machine",
        primaryEntity: order,
      },
    }),
    event("policy", bot, {
      case: "policyEvaluated",
      value: { policy, decision: "require_exception", violations: [violation] },
    }),
    event("exception", bot, {
      case: "exceptionRequested",
      value: { exceptionId: `exc-${number}`, policy, reason: "Damage is proven, customer since 2019" },
    }),
    event("approval", huber, {
      case: "approvalRecorded",
      value: {
        approvalId: `apr-${number}`,
        subject: { subjectType: "exception", subjectId: `exc-${number}` },
        approver: huber,
        decision: "approved",
        reason: "Photo is clear",
      },
    }),
    event("proposal", bot, {
      case: "actionProposed",
      value: {
        actionId: `act-${number}`,
        actionType: "refund",
        targetEntity: order,
        targetSystem: "payments",
        changes: [{ path: "refunded", newValue: amount }],
      },
    }),
    event("payment", bot, {
      case: "actionCommitted",
      value: { actionId: `act-${number}`, status: "success", externalReference: `pay-${number}` },
    }),
    event("end", bot, {
      case: "traceFinished",
      value: { outcome: "success", summary: "Refunded in full" },
    }),
  ];
}

async function main(number: string): Promise<void> {
  const service = connect();
  const traceId = `refund-${number}`;

  console.log(`append ${traceId}`);
  const positions: bigint[] = [];
  let reused = 0;
  for (const event of decision(number)) {
    const answer = await service.append(event);
    positions.push(answer.event?.logSeq ?? 0n);
    if (answer.reused) reused += 1;
  }
  console.log(`  stored ${positions.length - reused}, reused ${reused}`);
  const first = positions[0] ?? 0n;
  const last = positions.at(-1) ?? 0n;

  const { summary } = await service.trace(traceId, last);
  console.log(`read it: ${summary?.title}: ${summary?.outcome}`);

  console.log("list its events, three a page");
  for await (const event of service.events({ traceId, pageSize: 3 })) {
    console.log(`  ${event.logSeq} ${event.eventType} by ${event.actor?.actorId}`);
  }

  console.log(`follow the log from position ${first} to ${last}`);
  for await (const event of service.watch(first - 1n, { traceId })) {
    console.log(`  ${event.logSeq} ${event.eventType}`);
    if (event.logSeq === last) break;
  }

  console.log("append to it once more");
  try {
    await service.append({ ...decision(number)[1], idempotencyKey: `${traceId}/afterthought` });
  } catch (error) {
    if (!(error instanceof Refused) || error.reason !== "TRACE_FINISHED") throw error;
    console.log(`  refused, as it is finished: ${error.reason}`);
  }
}

try {
  await main(process.argv[2] ?? String(Math.floor(Date.now() / 1000)));
} catch (error) {
  if (!(error instanceof Error)) throw error;
  if (error instanceof Refused) {
    for (const { field, description } of error.violations) console.error(`  ${field}: ${description}`);
    console.error(`${error.reason}: ${error.message} (request id ${error.requestId})`);
  } else {
    console.error(error.message);
  }
  process.exitCode = 1;
}
