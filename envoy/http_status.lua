-- What REST callers see beside the body, and what the gate tells those that it refuses
-- (docs/reference/HTTP_API_CONTRACT.md, headers and errors).

math.randomseed(os.time() + tonumber(string.sub(tostring({}), -6), 16))

-- gRPC servers take 8 KiB of metadata, each counted with 32 bytes more; the rest is for what is added on the way.
local MAX_HEADER_BYTES = 7168

-- Answers are data for programs: no browser is to guess, frame, store or run them.
local SECURITY_HEADERS = {
  ["referrer-policy"] = "no-referrer",
  ["x-content-type-options"] = "nosniff",
  ["x-frame-options"] = "DENY",
}

-- The server says otherwise for the pages for people and the files they need, and for nothing else (rpc/pages.py).
local UNLESS_THE_SERVER_SAYS = {
  ["cache-control"] = "no-store",
  ["content-security-policy"] = "default-src 'none'; frame-ancestors 'none'",
}

local REALM = 'Bearer realm="decisiongraph"'

-- The gate's reasons as Envoy puts them into its response code details, and what the caller can do about each. Any other
-- is repeated: they are words of Envoy's own, with nothing of the token in them.
local DENIED = {
  Jwt_is_missing = "send a token as `authorization: Bearer <token>`",
  Jwt_is_expired = "the token has expired; get a new one",
  Jwt_not_yet_valid = "the token is not valid yet (`nbf`); send it later, or set the clock of its issuer right",
  Audiences_in_Jwt_are_not_allowed = "the token is not made for this service (`aud`); get one that is",
  Jwt_issuer_is_not_configured = "the token is not made by an issuer that this service knows; get one from one of them",
  ["Jwks_doesn't_have_key_to_match_kid_or_alg_from_Jwt"] = "the token is signed with a key that is not ours, or not any "
    .. "more, or not known here yet; get a new one, or try again in a minute if its issuer has a new key",
  Jwt_verification_fails = "the token is not valid (its signature does not fit, or it has no `exp`); get a new one",
}

-- Nothing is wrong with these tokens, as far as can be told.
local KEYS_UNKNOWN = {
  Jwks_remote_fetch_is_failed = true,
  ["Jwks_doesn't_have_any_valid_public_key"] = true,
}

local function is_grpc(headers)
  return string.sub(headers:get("content-type") or "", 1, 16) == "application/grpc"
end

-- The path is not among them: of a REST call it goes into the message.
local function header_bytes(headers)
  local total = 0
  for name, value in pairs(headers) do
    if name ~= ":path" then total = total + #name + #value + 32 end
  end
  return total
end

-- The gate takes the scheme in one spelling only; callers may write it in any (RFC 9110, section 11.1).
local function spell_scheme(headers)
  local sent = headers:get("authorization")
  if sent ~= nil and string.find(sent, "^[Bb][Ee][Aa][Rr][Ee][Rr] ") and string.sub(sent, 1, 7) ~= "Bearer " then
    headers:replace("authorization", "Bearer " .. string.sub(sent, 8))
  end
end

-- gRPC's own library answers a header that it cannot read with INTERNAL: a name that HTTP allows and gRPC does not, one
-- that gRPC uses itself, and binary ones (`-bin`) that are no base64. REST callers have no use for any of them.
local function remove_headers_that_grpc_reads_otherwise(headers)
  local names = {}
  for name, _ in pairs(headers) do
    local reserved = string.sub(name, 1, 5) == "grpc-" and name ~= "grpc-timeout"
    local readable = string.sub(name, 1, 1) == ":" or not string.find(name, "[^0-9a-z._-]")
    if reserved or not readable or string.sub(name, -4) == "-bin" then table.insert(names, name) end
  end
  for _, name in ipairs(names) do headers:remove(name) end
end

-- Tells Envoy's error formats who asks: the transcoder makes every request look like gRPC.
-- A request id that is too long or holds more than visible ASCII is replaced before it is logged or echoed.
function envoy_on_request(handle)
  local headers = handle:headers()
  local grpc = is_grpc(headers)
  headers:replace("x-decisiongraph-transport", grpc and "grpc" or "rest")
  local id = headers:get("x-request-id")
  if id == nil or #id == 0 or #id > 128 or string.find(id, "[^\33-\126]") then
    local fresh = string.format("%07x%07x%07x", math.random(0, 0xfffffff), math.random(0, 0xfffffff), math.random(0, 0xfffffff))
    headers:replace("x-request-id", fresh)
  end
  if not grpc then remove_headers_that_grpc_reads_otherwise(headers) end
  -- It answers a malformed deadline with INTERNAL too.
  local deadline = headers:get("grpc-timeout")
  if not grpc and deadline ~= nil and not string.find(deadline, "^%d%d?%d?%d?%d?%d?%d?%d?[HMSmun]$") then
    headers:remove("grpc-timeout")
  end
  spell_scheme(headers)
  if not grpc and header_bytes(headers) > MAX_HEADER_BYTES then
    handle:respond({[":status"] = "431"}, "")
  end
end

-- The transcoder's messages repeat pieces of the request, which may be secrets: lines that show where it broke off, and
-- values that do not fit their field.
local function remove_values(handle)
  handle:headers():remove("x-decisiongraph-edge")
  local body = handle:body()
  if body == nil then return end
  local text = body:getBytes(0, body:length())
  local before, message, after = string.match(text, '^(.*"message":")(.*)("}%s*)$')
  if message == nil then return end
  for _, line_end in ipairs({"\\n", "\\u000a"}) do
    message = string.sub(message, 1, (string.find(message, line_end, 1, true) or 0) - 1)
  end
  message = string.gsub(message, "invalid value .* for type", "invalid value for type")
  handle:headers():replace("content-length", body:setBytes(before .. message .. after))
end

-- One field of a protobuf message that holds a text or another message.
local function field(number, bytes)
  local size, length = "", #bytes
  while length > 127 do
    size, length = size .. string.char(length % 128 + 128), math.floor(length / 128)
  end
  return string.char(number * 8 + 2) .. size .. string.char(length) .. bytes
end

-- google.rpc.Status with its details, as gRPC carries it beside `grpc-message`.
local function status_message(refusal, request_id)
  local function detail(kind, bytes)
    return field(3, field(1, "type.googleapis.com/google.rpc." .. kind) .. field(2, bytes))
  end
  local category = field(3, field(1, "category") .. field(2, refusal.category))
  return "\8" .. string.char(refusal.code) .. field(2, refusal.message)
    .. detail("ErrorInfo", field(1, refusal.reason) .. field(2, "decisiongraph") .. category)
    .. detail("RequestInfo", field(1, request_id))
    .. (refusal.retry and detail("RetryInfo", field(1, "\8\1")) or "")
end

-- The same in JSON. All texts are visible ASCII and blanks.
local function status_json(refusal, request_id)
  local function text(value) return '"' .. string.gsub(value, '["\\]', "\\%0") .. '"' end
  local function detail(kind, members)
    return '{"@type":"type.googleapis.com/google.rpc.' .. kind .. '",' .. members .. "}"
  end
  return '{"code":' .. refusal.code .. ',"message":' .. text(refusal.message) .. ',"details":['
    .. detail("ErrorInfo", '"reason":' .. text(refusal.reason)
      .. ',"domain":"decisiongraph","metadata":{"category":' .. text(refusal.category) .. "}") .. ","
    .. detail("RequestInfo", '"request_id":' .. text(request_id) .. ',"serving_data":""')
    .. (refusal.retry and "," .. detail("RetryInfo", '"retry_delay":"1s"') or "") .. "]}"
end

local function refusal_for(denied)
  if KEYS_UNKNOWN[denied] then
    return {
      http = "503", code = 14, reason = "STORAGE_UNAVAILABLE", category = "storage", retry = true,
      message = "the keys that verify tokens of this issuer are not known here yet; send the request again",
    }
  end
  local message = DENIED[denied]
    or "the token is not valid (" .. string.gsub(denied, "_", " ") .. "); get a new one from an issuer of this service"
  return {
    http = "401", code = 16, reason = "UNAUTHENTICATED", category = "unauthorized", message = "authorization: " .. message,
  }
end

-- Puts the contract's error in the place of Envoy's answer, over REST and over gRPC.
local function refuse(handle, details, request_id)
  local denied = string.match(details, "{(.*)}") or details
  local refusal, headers = refusal_for(denied), handle:headers()
  headers:remove("x-decisiongraph-denied")
  headers:remove("www-authenticate")
  if refusal.retry then headers:replace("retry-after", "1") end
  if is_grpc(headers) then
    headers:replace("grpc-status", tostring(refusal.code))
    headers:replace("grpc-message", refusal.message)
    headers:replace("grpc-status-details-bin", handle:base64Escape(status_message(refusal, request_id)))
    return
  end
  headers:replace(":status", refusal.http)
  headers:replace("content-type", "application/json")
  if refusal.code == 16 then
    headers:replace("www-authenticate", denied == "Jwt_is_missing" and REALM or REALM .. ', error="invalid_token"')
  end
  local body = handle:body()
  if body ~= nil then
    local length = body:setBytes(status_json(refusal, request_id))
    handle:headers():replace("content-length", length)
  end
end

-- gRPC codes alone cannot tell 422 from 400, so the server names the HTTP status of its error in a header.
function envoy_on_response(handle)
  if handle:headers():get("x-decisiongraph-edge") then remove_values(handle) end
  local details, request_id = string.match(handle:headers():get("x-decisiongraph-denied") or "", "^(%S+) (%S+)$")
  if details ~= nil then refuse(handle, details, request_id) end
  local headers = handle:headers()
  if not is_grpc(headers) then
    for name, value in pairs(SECURITY_HEADERS) do headers:replace(name, value) end
    for name, value in pairs(UNLESS_THE_SERVER_SAYS) do
      if headers:get(name) == nil then headers:replace(name, value) end
    end
  end
  local status = headers:get("x-http-status")
  if status ~= nil then
    headers:remove("x-http-status")
    if not is_grpc(headers) then headers:replace(":status", status) end
  end
  -- The server's refusals too: RFC 9110, section 15.5.2.
  if headers:get(":status") == "401" and headers:get("www-authenticate") == nil then
    headers:replace("www-authenticate", REALM)
  end
end
