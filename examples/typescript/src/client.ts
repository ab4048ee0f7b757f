// A small client of DecisionGraph over gRPC: deadlines, retries that store nothing twice, typed errors, pages as an async
// iterator, and a watch that goes on where it broke. Copy it and change it.

import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import type { Client, Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";

import { AccessService } from "../gen/decisiongraph/v1/access_service_pb.js";
import type { EventSchema, StoredEvent } from "../gen/decisiongraph/v1/event_pb.js";
import { IngestionService } from "../gen/decisiongraph/v1/ingestion_service_pb.js";
import type { AppendEventResponse } from "../gen/decisiongraph/v1/ingestion_service_pb.js";
import { QueryService } from "../gen/decisiongraph/v1/query_service_pb.js";
import type {
  GetTraceResponse,
  ListEventsRequestSchema,
  ListEventsResponse,
  WatchEventsRequestSchema,
} from "../gen/decisiongraph/v1/query_service_pb.js";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RequestInfoSchema,
  RetryInfoSchema,
} from "../gen/google/rpc/error_details_pb.js";

/** An event as a producer sends it, as a plain object. */
export type EventInit = MessageInitShape<typeof EventSchema>;
/** Which events to list. */
export type EventFilter = Omit<MessageInitShape<typeof ListEventsRequestSchema>, "$typeName" | "pageToken">;
/** Which events to watch. */
export type WatchFilter = Omit<MessageInitShape<typeof WatchEventsRequestSchema>, "$typeName" | "sinceLogSeq">;
/** An API key, which is exchanged for tokens, or a token for each role. */
export type Credentials = { apiKey: string } | { tokens: { reader: string; writer: string } };

/** Deadline of one attempt of a call. */
const CALL_MS = 10_000;
/**
 * How long a watch may be silent before its connection counts as dead; the service speaks every five seconds. This bounds
 * a watch, and not a deadline, whose timer would keep the program from ending when it stops watching.
 */
const SILENCE_MS = 30_000;
/** How long attempts may fail one after another before the last failure is thrown. */
const PATIENCE_MS = 60_000;

const WORTH_TRYING_AGAIN = new Set(["RATE_LIMITED", "STORAGE_UNAVAILABLE", "PROJECTION_OUT_OF_DATE"]);
/** What the transport says when a connection failed or broke, and no answer of the service came. */
const NO_ANSWER = new Set([Code.Unavailable, Code.DeadlineExceeded, Code.Aborted, Code.Canceled, Code.Internal]);

/** A call failed. Programs decide by `reason`; the message is for people and says what to change. */
export class Refused extends Error {
  /** The service's reason, e.g. `TRACE_FINISHED`, or `NO_ANSWER`. */
  readonly reason: string;
  /** Further facts about the reason, e.g. `expected_trace_seq`. */
  readonly metadata: Readonly<Record<string, string>>;
  /** The fields that are wrong, and what is asked of them. */
  readonly violations: readonly { field: string; description: string }[];
  /** Finds the call in the service's log. */
  readonly requestId: string;
  readonly worthTryingAgain: boolean;
  /** How long the service asks to wait. */
  readonly retryAfterMs: number | undefined;

  constructor(cause: unknown) {
    const error = ConnectError.from(cause);
    super(error.rawMessage, { cause });
    this.name = "Refused";
    const info = error.findDetails(ErrorInfoSchema)[0];
    const noAnswer = info === undefined && NO_ANSWER.has(error.code);
    this.reason = info?.reason ?? (noAnswer ? "NO_ANSWER" : Code[error.code]);
    this.metadata = info?.metadata ?? {};
    this.violations = error.findDetails(BadRequestSchema).flatMap((detail) => detail.fieldViolations);
    this.requestId = error.findDetails(RequestInfoSchema)[0]?.requestId ?? "unknown";
    this.worthTryingAgain = noAnswer || WORTH_TRYING_AGAIN.has(this.reason);
    const delay = error.findDetails(RetryInfoSchema)[0]?.retryDelay;
    this.retryAfterMs = delay && Number(delay.seconds) * 1000 + delay.nanos / 1e6;
  }
}

/** Decides after each failure whether to try again, and when. */
class Patience {
  private pauseMs = 500;
  private giveUpAt = Date.now() + PATIENCE_MS;

  /** Something went well. */
  renew(): void {
    this.pauseMs = 500;
    this.giveUpAt = Date.now() + PATIENCE_MS;
  }

  /** Waits as long as the service asks for, else longer each time; throws when that is of no use, or too long. */
  async waitAfter(cause: unknown): Promise<void> {
    const refused = new Refused(cause);
    // Who was refused together does not come back together.
    const waitMs = (refused.retryAfterMs ?? this.pauseMs) * (1 + Math.random() / 2);
    if (!refused.worthTryingAgain || Date.now() + waitMs > this.giveUpAt) throw refused;
    console.warn(`${refused.reason}: ${refused.message}; trying again in ${Math.ceil(waitMs)} ms`);
    await new Promise((resolve) => setTimeout(resolve, waitMs));
    this.pauseMs = Math.min(2 * this.pauseMs, 10_000);
  }
}

/** The service. All methods throw Refused. */
export class DecisionGraph {
  private readonly access: Client<typeof AccessService>;
  private readonly ingestion: Client<typeof IngestionService>;
  private readonly query: Client<typeof QueryService>;
  private renewed: { token: string; renewAt: number } | undefined;

  /** `baseUrl` is that of the gRPC port, e.g. `https://decisions.example.com:443`. */
  constructor(
    baseUrl: string,
    private readonly credentials: Credentials,
  ) {
    const authorize: Interceptor = (next) => async (request) => {
      if (request.service.typeName !== AccessService.typeName) {
        const role = request.service.typeName === IngestionService.typeName ? "writer" : "reader";
        request.header.set("authorization", `Bearer ${await this.token(role)}`);
      }
      return next(request);
    };
    const transport = createGrpcTransport({ baseUrl, interceptors: [authorize], defaultTimeoutMs: CALL_MS });
    this.access = createClient(AccessService, transport);
    this.ingestion = createClient(IngestionService, transport);
    this.query = createClient(QueryService, transport);
  }

  /**
   * Appends an event; `reused` in the answer says that it was there already. When no answer came, it may be stored all
   * the same; it is sent again with the same idempotency key, and so is never stored twice.
   */
  append(event: EventInit): Promise<AppendEventResponse> {
    return attempt(() => this.ingestion.appendEvent({ event }));
  }

  /** A trace, in an answer that includes at least that log position. */
  trace(traceId: string, minLogSeq: bigint): Promise<GetTraceResponse> {
    return attempt(() => this.query.getTrace({ traceId, minLogSeq }));
  }

  /** All events that match, in the order of the log, page by page. */
  async *events(filter: EventFilter): AsyncGenerator<StoredEvent> {
    let pageToken: string | undefined = "";
    do {
      const request: typeof filter & { pageToken: string } = { ...filter, pageToken };
      const page: ListEventsResponse = await attempt(() => this.query.listEvents(request));
      yield* page.events;
      pageToken = page.nextPageToken;
    } while (pageToken !== undefined);
  }

  /**
   * The events after a log position and then new ones, without end, each once, whatever breaks meanwhile. Keep the
   * `logSeq` of an event together with what you made of it, and begin there after a restart.
   */
  async *watch(sinceLogSeq: bigint, filter: WatchFilter = {}): AsyncGenerator<StoredEvent> {
    const patience = new Patience();
    for (;;) {
      const connection = new AbortController();
      const giveUp = () => connection.abort(new ConnectError(`silent for ${SILENCE_MS} ms`, Code.Unavailable));
      let silence = setTimeout(giveUp, SILENCE_MS);
      try {
        const options = { timeoutMs: 0, signal: connection.signal };
        for await (const { message } of this.query.watchEvents({ ...filter, sinceLogSeq }, options)) {
          clearTimeout(silence);
          patience.renew();
          if (message.case === "event") {
            sinceLogSeq = message.value.logSeq;
            yield message.value;
          } else if (message.case === "heartbeat") {
            sinceLogSeq = message.value.headLogSeq;
          }
          silence = setTimeout(giveUp, SILENCE_MS);
        }
        throw new ConnectError("the service ended the watch", Code.Unavailable);
      } catch (error) {
        await patience.waitAfter(error);
      } finally {
        clearTimeout(silence);
        connection.abort();
      }
    }
  }

  /** A token; an API key is exchanged for one when there is none yet, and in time before it expires. */
  private async token(role: "reader" | "writer"): Promise<string> {
    if ("tokens" in this.credentials) return this.credentials.tokens[role];
    if (this.renewed === undefined || Date.now() >= this.renewed.renewAt) {
      const { token, expiresAt } = await this.access.issueToken({ apiKey: this.credentials.apiKey });
      this.renewed = { token, renewAt: Date.parse(expiresAt) - 60_000 };
    }
    return this.renewed.token;
  }
}

/** Tries until there is an answer. */
async function attempt<Answer>(call: () => Promise<Answer>): Promise<Answer> {
  const patience = new Patience();
  for (;;) {
    try {
      return await call();
    } catch (error) {
      await patience.waitAfter(error);
    }
  }
}
