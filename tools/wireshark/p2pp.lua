-- P2PP between OpenVoIP's peers, for Wireshark and tshark.
--
-- Reads all that peers write to each other's peer port, as docs/protocol.md lays it out: in the profile *open*, in
-- *signed*, where messages stand in the frames of links, and of *secure* the heads of the frames.
-- Every byte of a P2PP message is a field with a name; STUN, RTP and tunnelled SIP go to Wireshark's own dissectors.
-- docs/wireshark.md says how to install it and what to ask for.
--
-- The file is a table of the protocol and a small reader for it. A layout is a list of steps. A step takes bytes off a
-- cursor, shows them as a field, and notes the value under the field's name for the steps after it. A step that cannot
-- go on refuses, with an error of docs/protocol.md, section 11: the object is marked with it, and what is left of the
-- object is shown as bytes. Signatures are shown and not checked, for Lua has no cryptography.

local p2pp = Proto("p2pp", "Peer-to-Peer Protocol (OpenVoIP)")

p2pp.prefs.ports = Pref.range("UDP ports", "7080", "Where peers listen; others are found by the first bytes", 65535)

-- Names of numbers --------------------------------------------------------------------------------------------------

local CLASSES = {
  [0] = "Request", [1] = "RequestReceived", [2] = "Indication",
  [4] = "Response", [5] = "ResponseReceived", [6] = "ResponseAck",
}

local MESSAGES = {
  [0] = "Enroll", [1] = "Authenticate", [2] = "Bootstrap", [3] = "Join", [4] = "Leave", [5] = "KeepAlive",
  [6] = "LookupPeer", [7] = "ExchangeTable", [8] = "Query", [9] = "Publish", [10] = "LookupObject",
  [11] = "RemoveObject", [12] = "Replicate", [13] = "Transfer", [14] = "Tunnel", [15] = "Connect",
  [16] = "GetDiagnostics", [17] = "Invite", [64] = "Configure", [65] = "Refresh", [66] = "GetDocument",
}

local CODES = {
  [0] = "none", [200] = "ok", [204] = "ok, one-sided", [302] = "next hop", [305] = "use another peer",
  [400] = "bad request", [403] = "forbidden", [404] = "not found", [405] = "insert refused", [406] = "rejected",
  [407] = "join deferred", [408] = "timeout", [409] = "stored record is newer", [410] = "TTL exceeded",
  [412] = "quota exceeded", [413] = "too large", [420] = "unknown mandatory object",
  [428] = "address proof required", [429] = "too many requests", [480] = "temporarily unavailable",
  [482] = "loop detected", [501] = "not implemented", [505] = "version not supported", [506] = "another overlay",
}

local ALGORITHMS = {
  [0] = "Chord", [1] = "CAN", [2] = "Kademlia", [3] = "Pastry", [4] = "Bamboo", [5] = "Tapestry", [6] = "Accordion",
  [7] = "SkipNet", [8] = "Mercury", [9] = "Gia", [128] = "OneHop",
}

local HASHES = { [1] = "sha-1", [2] = "sha-256", [4] = "md4", [5] = "md5" }
local HASH_WIDTHS = { [1] = 20, [2] = 32, [4] = 16, [5] = 16 }
local BASES = { [0] = "none" }
for bits = 1, 8 do BASES[bits] = ("%d"):format(2 ^ bits) end

local IS_WIDTH = { [16] = true, [20] = true, [32] = true }
local KINDS = { [0x0000] = "user", [0x0001] = "peer", [0x0100] = "stun", [0x0200] = "turn", [0x4000] = "data" }
local HOST_TYPES = { [0] = "host", [1] = "server reflexive", [2] = "peer reflexive", [3] = "relayed" }
local TRANSPORTS = { [0] = "UDP", [1] = "TCP" }
local DECISIONS = { [0] = "forwarded", [1] = "answered", [2] = "went round a dead hop" }
local CONTENTS = { [0] = "envelope", [1] = "piece of an envelope" }

local COUNTED = { [254] = "answers", [255] = "acknowledgements" }
for number, name in pairs(MESSAGES) do COUNTED[number] = name end

-- What can be wrong (section 11) ------------------------------------------------------------------------------------

local OFFENCES = {
  Truncated = "the bytes end before the structure does",
  NotP2pp = "the first two bits are not 11, or the cookie is wrong",
  Version = "not version 1; every version keeps the first 16 bytes",
  Class = "a class without a meaning",
  UnknownMessage = "a message type without a meaning",
  IdLength = "an identifier length that is not 0, 16, 20 or 32",
  BodyLength = "the body is longer or shorter than the header says",
  TooMany = "more objects, parts or addresses than may be there",
  UnknownObject = "a mandatory object that is not known",
  Malformed = "the value breaks its layout",
  -- A warning of ours: what a record or an envelope holds is carried unread, and P2PP does not refuse it.
  Odd = "not what its kind says",
}

local experts = {}
for offence, words in pairs(OFFENCES) do
  local abbreviation = "p2pp.mark." .. offence:gsub("(%l)(%u)", "%1_%2"):lower()
  local severity = offence == "Odd" and expert.severity.WARN or expert.severity.ERROR
  experts[offence] = ProtoExpert.new(abbreviation, words, expert.group.MALFORMED, severity)
end

-- The cursor --------------------------------------------------------------------------------------------------------

local fields = {}

local function field(make, abbreviation, ...)
  local made = make("p2pp." .. abbreviation, ...)
  fields[#fields + 1] = made
  return made
end

local unread = field(ProtoField.bytes, "unread", "Not read")
local odd = field(ProtoField.bytes, "odd", "Carried, but not what its kind says")

local Cursor = {}
Cursor.__index = Cursor

-- Reads bytes `at` to `stop` into a tree. Bytes that end too early are the offence `short`, of the object with that
-- number. `about` holds what concerns the whole packet.
local function cursor(tvb, at, stop, tree, short, number, about)
  local new = { tvb = tvb, at = at, stop = stop, tree = tree, short = short, number = number, about = about, got = {} }
  return setmetatable(new, Cursor)
end

-- The next bytes, to be read into a tree of their own.
function Cursor:split(length, tree, short, number)
  self.at = self.at + length
  return cursor(self.tvb, self.at - length, self.at, tree, short, number, self.about)
end

function Cursor:left() return self.stop - self.at end

-- The next bytes, which stay there.
function Cursor:peek(length) return self.tvb(self.at, length) end

function Cursor:take(length)
  if length > self:left() then self:refuse() end
  self.at = self.at + length
  return self.tvb(self.at - length, length)
end

-- Says what is wrong and goes on.
function Cursor:mark(offence, number)
  local name = number and ("%s(%d)"):format(offence, number) or offence
  self.tree:add_proto_expert_info(experts[offence], name .. ": " .. OFFENCES[offence])
end

-- Says what is wrong and reads no further.
function Cursor:refuse(offence, number)
  if not offence then offence, number = self.short, self.number end
  error({ offence = offence, number = number }, 0)
end

-- Takes the steps of a layout, to the end of the bytes. If one refuses, what is left stands beside the reason.
function Cursor:read(layout)
  local ok, reason = pcall(function()
    for _, step in ipairs(layout) do step(self) end
    if self:left() > 0 then self:refuse() end
  end)
  if ok then return end
  if type(reason) ~= "table" then error(reason, 0) end
  if self:left() > 0 then self.tree:add(reason.offence == "Odd" and odd or unread, self:take(self:left())) end
  self:mark(reason.offence, reason.number)
end

-- Steps -------------------------------------------------------------------------------------------------------------

-- A number of so many bytes; `names` says what some of its values mean.
local function number(make, width)
  return function(abbreviation, label, display, names)
    local made = field(make, abbreviation, label, display or base.DEC, names)
    return function(c)
      local range = c:take(width)
      c.got[abbreviation] = width <= 4 and range:uint() or range:bytes():tohex(true)
      c.tree:add(made, range)
    end
  end
end

local u8, u16 = number(ProtoField.uint8, 1), number(ProtoField.uint16, 2)
local u24, u32 = number(ProtoField.uint24, 3), number(ProtoField.uint32, 4)
local u64 = number(ProtoField.uint64, 8)

-- A byte or two whose bits are fields: of each its name, its label, its mask, and for a number what its values mean.
local function bits(width, ...)
  local parts = {}
  for i, part in ipairs({ ... }) do
    local abbreviation, label, mask, names = part[1], part[2], part[3], part[4]
    local low = 1
    while mask % (low * 2) == 0 do low = low * 2 end
    local uint = width == 1 and ProtoField.uint8 or ProtoField.uint16
    local made = mask == low and field(ProtoField.bool, abbreviation, label, width * 8, nil, mask)
      or field(uint, abbreviation, label, base.DEC, names, mask)
    parts[i] = { abbreviation = abbreviation, field = made, low = low, size = math.floor(mask / low) + 1 }
  end
  return function(c)
    local range = c:take(width)
    for _, part in ipairs(parts) do
      c.got[part.abbreviation] = math.floor(range:uint() / part.low) % part.size
      c.tree:add(part.field, range)
    end
  end
end

-- How long the next four are is said where they are used: so many bytes, as many as a field says, or all that is left.

local function bytes(abbreviation, label)
  local made = field(ProtoField.bytes, abbreviation, label)
  return function(length)
    return function(c)
      local range = c:take(c.got[length] or length or c:left())
      if range:len() > 0 then c.tree:add(made, range) end
    end
  end
end

-- An identifier, as wide as a hash.
local function key(abbreviation, label)
  local made = field(ProtoField.bytes, abbreviation, label)
  return function(length)
    return function(c)
      local width = c.got[length] or c:left()
      if not IS_WIDTH[width] then c:refuse() end
      local range = c:take(width)
      c.got[abbreviation] = range:bytes():tohex(true)
      c.tree:add(made, range)
    end
  end
end

local UTF8 = {
  "^[\0-\127]+", "^[\194-\223][\128-\191]", "^\224[\160-\191][\128-\191]",
  "^[\225-\236\238\239][\128-\191][\128-\191]", "^\237[\128-\159][\128-\191]", "^\240[\144-\191][\128-\191][\128-\191]",
  "^[\241-\243][\128-\191][\128-\191][\128-\191]", "^\244[\128-\143][\128-\191][\128-\191]",
}

local function is_utf8(raw)
  local at = 1
  while at <= #raw do
    local last
    for _, form in ipairs(UTF8) do last = last or select(2, raw:find(form, at)) end
    if not last then return false end
    at = last + 1
  end
  return true
end

-- UTF-8, at most 255 bytes.
local function text(abbreviation, label)
  local made = field(ProtoField.string, abbreviation, label, base.UNICODE)
  return function(length)
    return function(c)
      local width = c.got[length] or c:left()
      if width == 0 then return end
      if width > 255 or width > c:left() or not is_utf8(c:peek(width):raw()) then c:refuse() end
      c.tree:add_packet_field(made, c:take(width), ENC_UTF_8)
    end
  end
end

local ipv4, ipv6 = field(ProtoField.ipv4, "ip", "IP address"), field(ProtoField.ipv6, "ipv6", "IP address")

local function ip(length)
  return function(c)
    local width = c.got[length] or c:left()
    if width ~= 4 and width ~= 16 then c:refuse() end
    local range = c:take(width)
    c.got.ip = tostring(width == 4 and range:ipv4() or range:ipv6())
    c.tree:add(width == 4 and ipv4 or ipv6, range)
  end
end

-- Refuses unless this holds of what was read.
local function check(holds)
  return function(c) if not holds(c.got, c) then c:refuse() end end
end

-- A step if this holds.
local function when(holds, step)
  return function(c) if holds(c.got, c) then step(c) end end
end

-- A step as often as a field says.
local function times(count, step)
  return function(c) for _ = 1, c.got[count] do step(c) end end
end

-- A step as long as there are so many bytes.
local function many(least, step)
  return function(c) while c:left() >= least do step(c) end end
end

local function all(...)
  local steps = { ... }
  return function(c) for _, step in ipairs(steps) do step(c) end end
end

-- Fields of several objects -----------------------------------------------------------------------------------------

local node_id, resource_id = key("node_id", "Node-ID"), key("resource_id", "Resource-ID")
local node_id_length = u8("node_id.length", "Length of the Node-ID")
local resource_id_length = u8("resource_id.length", "Length of the Resource-ID")
local public_key, signature = bytes("public_key", "Public key"), bytes("signature", "Signature")
local signer, owner = bytes("signer", "Public key of the signer"), bytes("owner", "Public key of the owner")
local kind, sequence = u16("kind", "Kind of record", base.HEX, KINDS), u64("sequence", "Sequence")
local name_length, name, value = u8("name.length", "Length of the name"), text("name", "Name"), text("value", "Value")
local port, ip_length = u16("port", "Port"), u8("ip.length", "Length of the IP address")
local opaque, rest = bytes("opaque", "Opaque"), bytes("rest", "Rest without a meaning")

-- All that is left, which another layout reads: what is carried for others. A fault there is only odd.
local function content(abbreviation, label, layout_of)
  local made = field(ProtoField.bytes, abbreviation, label)
  return function(c)
    local length, layout = c:left(), layout_of(c.got)
    if length == 0 then return end
    local inside = c:split(length, c.tree:add(made, c:peek(length)), "Odd")
    if layout then inside:read(layout) end
  end
end

-- Records (sections 9.2 and 10) -------------------------------------------------------------------------------------

local MAX_VALUE = 800

local value_version, entries = u8("record.value.version", "Version"), u8("record.value.count", "Entries")
local socket = all(port, ip_length, ip("ip.length"))
local carrier = all(node_id_length, node_id("node_id.length"), socket)
local function is_version(number) return function(got) return got["record.value.version"] == number end end

local VALUES = {
  [0x0000] = { value_version, check(is_version(1)), entries, times("record.value.count", public_key(32)) },
  [0x0001] = {
    value_version, check(function(got) return is_version(1)(got) or is_version(2)(got) end),
    entries, times("record.value.count", socket),
    when(is_version(2), all(entries, times("record.value.count", carrier))),
  },
}

local record = all(
  kind, bits(1, { "record.reserved", "Reserved", 0xFE }, { "record.tombstone", "Tombstone", 0x01 }), resource_id_length,
  sequence, u64("record.created", "Created (Unix seconds)"), u32("record.lifetime", "Lifetime (s)"),
  owner(32), signature(64), resource_id("resource_id.length"),
  check(function(got, c)
    return got["record.reserved"] == 0 and c:left() <= (got["record.tombstone"] == 1 and 0 or MAX_VALUE)
  end),
  content("record.value", "Value", function(got) return VALUES[got.kind] end))

-- Tunnels (section 15) ----------------------------------------------------------------------------------------------

local sip = field(ProtoField.string, "sip", "SIP message", base.UNICODE)

local envelope = {
  u8("envelope.version", "Version"), check(function(got) return got["envelope.version"] == 1 end),
  public_key(32), signature(64), u64("envelope.run", "Run", base.HEX), u32("envelope.number", "Number"),
  function(c)
    local message = c:take(c:left())
    if message:len() == 0 then return end
    c.tree:add_packet_field(sip, message, ENC_UTF_8)
    c.about.sip = message:tvb()
  end,
}

-- Pieces by sender, number and size of their envelope, and whole envelopes by the packet that brought the last piece.
local pieces, envelopes = {}, {}

function p2pp.init() pieces, envelopes = {}, {} end

local function keep(c)
  local got, packet = c.got, c.about.pinfo
  local sender = c.about.source or tostring(packet.src)
  local id = ("%s %d of %d"):format(sender, got["piece.envelope"], got["piece.count"])
  local others = pieces[id] or { missing = got["piece.count"] }
  pieces[id] = others
  if others[got["piece.index"]] then return end
  others[got["piece.index"]], others.missing = c:peek(c:left()):bytes(), others.missing - 1
  if others.missing > 0 then return end
  local whole = ByteArray.new()
  for i = 0, got["piece.count"] - 1 do whole:append(others[i]) end
  envelopes[packet.number], pieces[id] = whole, nil
end

local piece_bytes = bytes("piece", "Piece")()

local piece = {
  u32("piece.envelope", "Number of the envelope", base.HEX),
  u8("piece.index", "Index of the piece"), u8("piece.count", "Pieces"),
  check(function(got, c) return got["piece.index"] < got["piece.count"] and c:left() > 0 end),
  function(c)
    if not c.about.pinfo.visited then keep(c) end
    piece_bytes(c)
    local whole = envelopes[c.about.pinfo.number]
    if not whole then return end
    local tvb = whole:tvb("Envelope")
    cursor(tvb, 0, tvb:len(), c.tree:add(tvb(), "The whole envelope"), "Odd", nil, c.about):read(envelope)
  end,
}

local PAYLOADS = { [0] = envelope, [1] = piece }

-- Objects (section 5) -----------------------------------------------------------------------------------------------

local PEER_INFO, PEER_ID, ADDRESS_INFO = 0, 1, 2
local MAX_PARTS, MAX_ADDRESSES = 15, 6

-- Layouts by number, and those of them that a Peer-Info may hold.
local OBJECTS, PARTS, NAMES = {}, {}, {}

local framing
local unknown = bytes("object.value", "Value")()

-- The number of the next object, framing included, and its length. All of it is there.
local function frame(c)
  if c:left() < 4 then c:refuse("Truncated") end
  local length = 4 + c:peek(4)(2, 2):uint()
  if c:left() < length then c:refuse("Truncated") end
  local number = c:peek(1):uint()
  if c:peek(4):bitfield(8, 1) == 1 then c:refuse("Malformed", number) end
  return number, length
end

-- The next object, framing included, by one of these layouts.
local function object(c, layouts)
  local number, length = frame(c)
  local tree = c.tree:add(c:peek(length), NAMES[number] or ("Unknown object %d"):format(number))
  c:split(length, tree, "Malformed", number):read({
    framing,
    layouts[number] or function(o)
      if o.got["object.ignorable"] == 0 then o:refuse("UnknownObject", number) end
      unknown(o)
    end,
  })
end

local function peer_info(c)
  local seen, count = {}, 0
  while c:left() > 0 do
    local number = frame(c)
    local before = seen[number] or 0
    seen[number], count = before + 1, count + 1
    if count > MAX_PARTS or number == ADDRESS_INFO and before == MAX_ADDRESSES then c:refuse("TooMany") end
    object(c, PARTS)
    if PARTS[number] and number ~= ADDRESS_INFO and before > 0 then c:refuse() end
  end
  if not (seen[PEER_ID] or seen[ADDRESS_INFO]) then c:refuse() end
end

local ID_WIDTHS = { [0] = 16, [1] = 20, [2] = 32 }
local ID_WIDTH_NAMES = { [0] = "16 bytes", [1] = "20 bytes", [2] = "32 bytes" }
local short_peer = {
  bits(1, { "peer.short", "Without framing", 0x80 }, { "peer.reserved", "Reserved", 0x78 },
    { "peer.is_ipv6", "IPv6", 0x04 }, { "peer.id_width", "Width of the Node-ID", 0x03, ID_WIDTH_NAMES }),
  node_id("width"), port, ip(),
}

-- An entry of a table: a short one, or a Peer-Info with its framing.
local function peer(c)
  if c:left() == 0 then c:refuse() end
  local head = c:peek(1)
  if head:bitfield(0, 1) == 0 then
    if frame(c) ~= PEER_INFO then c:refuse() end
    return object(c, OBJECTS)
  end
  local width = ID_WIDTHS[head:bitfield(6, 2)]
  local length = width and 1 + width + 2 + (head:bitfield(5, 1) == 1 and 16 or 4)
  if not width or head:bitfield(1, 4) ~= 0 or length > c:left() then c:refuse() end
  local entry = c:split(length, c.tree:add(c:peek(length), "Peer"), "Malformed", c.number)
  entry.got.width = width
  entry:read(short_peer)
  entry.tree:append_text((" %s at %s, port %d"):format(entry.got.node_id:sub(1, 8), entry.got.ip, entry.got.port))
end

local peers = all(u8("table.count", "Peers"), times("table.count", peer))
local address = all(port, ip())
local diagnostic = all(name_length, name("name.length"), value())

local function define(number, label, ...) OBJECTS[number], NAMES[number] = all(...), label end

define(0, "Peer-Info", peer_info)
define(1, "Peer-ID", node_id())
define(2, "Address-Info",
  bits(1, { "address.host_type", "Host type", 0xF0, HOST_TYPES },
    { "address.transport", "Transport", 0x0F, TRANSPORTS }),
  check(function(got) return HOST_TYPES[got["address.host_type"]] and TRANSPORTS[got["address.transport"]] end),
  u8("address.foundation", "Foundation"), u8("address.component", "Component"), u8("address.reserved", "Reserved"),
  u32("address.priority", "Priority"), address)
define(3, "Unhashed-ID", name())
define(4, "Uptime", u32("uptime", "Uptime (s)"))
define(5, "P2P-Options",
  u8("options.hash", "Hash", base.DEC, HASHES), u8("options.hash.width", "Bytes of a hash"),
  u8("options.algorithm", "Algorithm", base.DEC, ALGORITHMS), u8("options.base_bits", "Base", base.DEC, BASES),
  u8("options.difficulty", "Difficulty"), u8("options.replicas", "Replicas"),
  bits(1, { "options.reserved", "Reserved", 0xFE },
    { "options.remote_settings", "Operators may set load values", 0x01 }),
  name_length, check(function(got)
    return HASH_WIDTHS[got["options.hash"]] == got["options.hash.width"] and got["options.base_bits"] <= 8
  end),
  name("name.length"))
define(6, "Request-Options",
  bits(2, { "wish.primary", "P: primary of parallel copies", 0x8000 },
    { "wish.routing_table", "R: routing table", 0x4000 }, { "wish.neighbor_table", "N: neighbour table", 0x2000 },
    { "wish.e", "E: not used", 0x1000 }, { "wish.partial", "A: a part that fits is enough", 0x0800 },
    { "wish.neighbor_join", "S: to a neighbour", 0x0400 }, { "wish.route_log", "L: route log", 0x0200 },
    { "wish.call_back", "C: have another peer write to me", 0x0100 }, { "wish.reserved", "Reserved", 0x00FF }),
  u16("wish.offset", "First entry wanted"))
define(7, "Diagnostic-Options", u64("diagnostics", "Wanted", base.HEX))
define(8, "Routing-Table", peers)
define(9, "Neighbor-Table", peers)
define(10, "PLookup",
  bits(1, { "plookup.count", "Peers wanted", 0xFC }, { "plookup.exact", "E: exactly this peer", 0x02 },
    { "plookup.reserved", "Reserved", 0x01 }),
  check(function(got) return got["plookup.count"] > 0 and got["plookup.reserved"] == 0 end),
  key("plookup.key", "Key")())
define(11, "Resource-ID", resource_id())
define(12, "RLookup", kind, resource_id_length, resource_id("resource_id.length"),
  when(function(_, c) return c:left() > 0 end, owner(32)))
define(13, "Resource-Object", record)
define(14, "Expires", u32("expires", "Expires (s)"))
define(15, "Owner", owner(32))
define(16, "Signing-Request", opaque())
define(17, "Certificate", opaque())
define(18, "Signature", signer(32), signature(64))
define(19, "Time-Window", u32("time_window", "Time window (s)"))
define(20, "Connections", u16("connections.neighbors", "Entries of the neighbour table"),
  u16("connections.routing", "Entries of the routing table"), u16("connections.clients", "Clients"))
define(21, "Utilization", u32("utilization.bandwidth", "Bandwidth (kb/s)"),
  u8("utilization.cpu_percent", "CPU in use (%)"), u8("utilization.bandwidth_percent", "Bandwidth in use (%)"))
define(22, "Messages-Received",
  many(1, all(u8("received.message", "Received", base.DEC, COUNTED), u24("received.count", "Count"))))
define(23, "AS-Number", u32("as_number", "AS number"))
define(24, "Error", u16("error.code", "Response code", base.DEC, CODES), u16("error.detail", "Detail"),
  text("error.reason", "Reason")())
define(64, "Public-Key", public_key(32))
define(65, "Resource-List", many(1, u8("service", "Content type of a service")))
define(66, "Record-Summary", kind, sequence, u64("digest", "Digest of the signature", base.HEX), resource_id())
define(67, "Payload", u8("payload.content", "Content", base.DEC, CONTENTS),
  content("payload", "Payload", function(got) return PAYLOADS[got["payload.content"]] end))
define(68, "Route-Hop", u8("hop.decision", "Decision", base.DEC, DECISIONS), u32("hop.round_trip", "Round trip (µs)"),
  node_id_length, node_id("node_id.length"), address)
define(69, "Diagnostic", diagnostic)
define(70, "Puzzle-Nonce", u64("nonce", "Nonce, or an operator's clock", base.HEX))
define(71, "Admission", opaque())
define(72, "Cookie", bytes("proof", "Proof of an address")(16))
define(73, "Setting", diagnostic)
define(74, "Observed-Address", address)
define(75, "Candidates", opaque())
define(76, "Padding", bytes("padding", "Padding")())
define(77, "Known", many(2, bytes("known", "Known peer")(2)), rest())
define(78, "Link-State",
  bits(1, { "link.reserved", "Reserved", 0xF8 }, { "link.has_index", "X: an index follows", 0x04 },
    { "link.fresh", "F: not until now", 0x02 }, { "link.neighbor", "N: neighbour", 0x01 }),
  check(function(got) return got["link.reserved"] == 0 end),
  u8("link.degree", "Degree"), u32("link.capacity", "Capacity (requests/s)"), u32("link.tokens", "Tokens"),
  u32("link.spent", "Spent"), u32("link.known", "Mark of the index that is known", base.HEX),
  when(function(got) return got["link.has_index"] == 1 end, many(1, u32("link.digest", "Digest", base.HEX))))
define(79, "Holders", many(8, bytes("holder", "Holder")(8)), rest())
define(80, "Missing", many(1, u8("missing", "Place of a record")))
define(81, "Density", u16("density.fourth", "Nearness of the fourth peer (-256 log2)"),
  u16("density.eighth", "Nearness of the eighth peer (-256 log2)"))
define(82, "Document-Part", u64("document.sequence", "Sequence of the newest document"),
  u32("document.length", "Length of all documents"), u32("document.offset", "Offset of this part"),
  bytes("document.part", "Part")())

for _, number in ipairs({ PEER_ID, ADDRESS_INFO, 4, 64, 70, 71 }) do PARTS[number] = OBJECTS[number] end

framing = all(
  u8("object", "Object", base.DEC, NAMES),
  bits(1, { "object.reserved_a", "A: reserved", 0x80 }, { "object.ignorable", "B: may be skipped", 0x40 },
    { "object.reserved", "Reserved", 0x3F }),
  u16("object.length", "Length of the value"))

-- Messages (sections 3 and 4) ---------------------------------------------------------------------------------------

local COOKIE, VERSION, FIXED_LENGTH, MAX_OBJECTS = 0x596ABF0D, 1, 32, 64

-- Of a header that is cut only this is said.
local function is_whole(_, c) return c.stop >= FIXED_LENGTH end

-- An identifier of the header, if it is there.
local function identifier(abbreviation, label)
  local length = abbreviation .. ".length"
  local step = key(abbreviation, label)(length)
  return function(c)
    if c.got[length] == 0 then return end
    if not IS_WIDTH[c.got[length]] then c:refuse("IdLength") end
    step(c)
  end
end

-- A wrong class, type or length is marked, and keeps nobody from reading on.
local message = {
  bits(1, { "first_bits", "First bits", 0xC0 }, { "class", "Class", 0x38, CLASSES },
    { "from_peer", "P: the sender is a peer", 0x04 }, { "recursive", "R: route recursively", 0x02 },
    { "reserved", "Reserved", 0x01 }),
  u8("version", "Version"), u8("message", "Message", base.DEC, MESSAGES), u8("ttl", "TTL"),
  u32("cookie", "Cookie", base.HEX),
  when(is_whole, function(c)
    if c.got.first_bits ~= 3 or c.got.cookie ~= COOKIE then c:refuse("NotP2pp") end
  end),
  u64("transaction", "Transaction-ID", base.HEX),
  when(is_whole, function(c)
    if c.got.version ~= VERSION then c:refuse("Version", c.got.version) end
    if not CLASSES[c.got.class] then c:mark("Class") end
  end),
  u32("overlay", "Overlay tag", base.HEX), u16("config_sequence", "Configuration sequence"),
  u16("code", "Response code", base.DEC, CODES), u16("deadline", "Remaining deadline (ms)"),
  u8("source.length", "Length of the source-ID"), u8("responder.length", "Length of the response-ID"),
  u32("body_length", "Length of the body"),
  identifier("source", "Source-ID"), identifier("responder", "Response-ID"),
  function(c)
    if not MESSAGES[c.got.message] then c:mark("UnknownMessage", c.got.message) end
    if c.got.body_length ~= c:left() then c:mark("BodyLength") end
    c.about.source = c.got.source
    local count = 0
    while c:left() > 0 do
      count = count + 1
      if count > MAX_OBJECTS then c:refuse("TooMany") end
      object(c, OBJECTS)
    end
  end,
}

-- Class, message, code and transaction, as far as they are known.
local function summary(got)
  if not got.transaction then return "no P2PP message" end
  local class, name = CLASSES[got.class] or "Class " .. got.class, MESSAGES[got.message] or "Message " .. got.message
  local code = (got.code or 0) > 0 and (" %d %s"):format(got.code, CODES[got.code] or "unknown code") or ""
  return ("%s %s%s, transaction %s"):format(class, name, code, got.transaction)
end

-- Lets another of Wireshark's dissectors read these bytes. What it makes of broken ones is its own affair.
local function hand_over(dissector, tvb, pinfo, tree)
  pcall(function() Dissector.get(dissector):call(tvb, pinfo, tree) end)
end

local function read_message(tvb, pinfo, tree)
  local top, about = tree:add(p2pp, tvb()), { pinfo = pinfo }
  local c = cursor(tvb, 0, tvb:len(), top, "Truncated", nil, about)
  c:read(message)
  top:append_text(", " .. summary(c.got))
  pinfo.cols.info = summary(c.got)
  if about.sip then
    pinfo.cols.info:append(" | ")
    pinfo.cols.info:fence()
    hand_over("sip", about.sip, pinfo, tree)
  end
  pinfo.cols.protocol = "P2PP"
end

-- Frames of links (section 16.1) --------------------------------------------------------------------------------------

local PROFILES = { [5] = "secure", [6] = "signed" }
local FRAMES = { [0] = "first", [1] = "second", [2] = "third", [3] = "sealed", [4] = "cookie", [5] = "lost" }

local CODE = 16

local frame_head = bits(1, { "link.profile", "Profile", 0xF0, PROFILES }, { "link.frame", "Frame", 0x0F, FRAMES })
local to, from = u32("link.to", "Index of the receiver", base.HEX), u32("link.from", "Index of the sender", base.HEX)
local counter, cookie = u32("link.counter", "Counter"), bytes("link.cookie", "Cookie")(16)
local ephemeral = bytes("link.ephemeral", "Key for one use")(32)
local identity = bytes("link.identity", "Who it is: Ed25519 key")(32)
local signature, code = bytes("link.signature", "Signature")(64), bytes("link.code", "Code")(CODE)
local padding, sealed = bytes("link.padding", "Padding")(), bytes("link.sealed", "Encrypted")()
local tail = bytes("link.tail", "End of the frame that named it")(8)
local proof = { identity, signature, code }

-- The message in a frame, read as if it stood alone.
local function in_frame(c)
  local length = c:left() - CODE
  if length < 0 then c:refuse() end
  c.about.message = c:take(length):tvb()
end

local HEADS = { [0] = { from, cookie }, { to, from }, { to }, { to, counter }, { to, cookie }, { to, tail } }
local BODIES = {
  [5] = { [0] = { sealed }, { sealed }, { sealed }, { sealed }, {}, {} },
  [6] = { [0] = { ephemeral, padding }, { ephemeral, table.unpack(proof) }, proof, { in_frame, code }, {}, {} },
}

local frame = {
  frame_head,
  function(c)
    local kind = c.got["link.frame"]
    if not FRAMES[kind] then c:refuse("Malformed") end
    for _, step in ipairs(HEADS[kind]) do step(c) end
    for _, step in ipairs(BODIES[c.got["link.profile"]][kind]) do step(c) end
  end,
}

local function read_frame(tvb, pinfo, tree)
  local top, about = tree:add(p2pp, tvb()), { pinfo = pinfo }
  local c = cursor(tvb, 0, tvb:len(), top, "Truncated", nil, about)
  c:read(frame)
  local words = ("Link %s, %s"):format(PROFILES[c.got["link.profile"]], FRAMES[c.got["link.frame"]] or "unknown frame")
  top:append_text(", " .. words)
  pinfo.cols.info = words
  pinfo.cols.protocol = "P2PP"
  if about.message and about.message:len() > 0 then read_message(about.message, pinfo, tree) end
end

-- The port, which others share (section 16) -------------------------------------------------------------------------

local FIRST_OF_P2PP, FRAMES_OF_LINKS = 192, { 80, 111 }
local SHARERS = { { 0, 3, "stun-udp" }, { 20, 63, "dtls" }, { 64, 79, "turnchannel" }, { 128, 191, "rtp" } }

-- The dissector of what is no P2PP. RTCP has the types that RTP leaves free (RFC 5761).
local function sharer(tvb)
  local first = tvb(0, 1):uint()
  for _, protocol in ipairs(SHARERS) do
    if first >= protocol[1] and first <= protocol[2] then
      local is_rtcp = protocol[3] == "rtp" and tvb:len() > 1 and tvb(1, 1):uint() >= 192 and tvb(1, 1):uint() <= 223
      return is_rtcp and "rtcp" or protocol[3]
    end
  end
  return "data"
end

function p2pp.dissector(tvb, pinfo, tree)
  if tvb:len() == 0 then return 0 end
  local first = tvb(0, 1):uint()
  local is_frame = first >= FRAMES_OF_LINKS[1] and first <= FRAMES_OF_LINKS[2]
  if first >= FIRST_OF_P2PP or is_frame then
    (is_frame and read_frame or read_message)(tvb, pinfo, tree)
    -- A call's SDP names this port, and makes all that comes to it RTP. It is ours to share out.
    pinfo.conversation = p2pp
  else
    hand_over(sharer(tvb), tvb, pinfo, tree)
  end
  return tvb:len()
end

-- Streams, in which each datagram stands behind its length (section 16.2).
local stream = Proto("p2pp_stream", "P2PP over TCP")

function stream.dissector(tvb, pinfo, tree)
  local function length(start) return start(0, 2):uint() + 2 end
  local function datagram(whole, info, branch)
    p2pp.dissector(whole(2):tvb(), info, branch)
    info.conversation = stream
    return whole:len()
  end
  dissect_tcp_pdus(tvb, tree, 2, length, datagram)
  return tvb:len()
end

p2pp.fields = fields
p2pp.experts = experts

-- At other ports a message is known by its first bits, its version and its cookie.
p2pp:register_heuristic("udp", function(tvb, pinfo, tree)
  if tvb:len() < 8 or tvb(0, 1):uint() < FIRST_OF_P2PP or tvb(1, 1):uint() ~= VERSION then return false end
  if tvb(4, 4):uint() ~= COOKIE then return false end
  p2pp.dissector(tvb, pinfo, tree)
  return true
end)

local registered

local function register()
  local udp, tcp = DissectorTable.get("udp.port"), DissectorTable.get("tcp.port")
  if registered then
    udp:remove(registered, p2pp)
    tcp:remove(registered, stream)
  end
  registered = p2pp.prefs.ports
  udp:add(registered, p2pp)
  tcp:add(registered, stream)
end

register()
p2pp.prefs_changed = register
