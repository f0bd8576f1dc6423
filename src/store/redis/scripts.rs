//! The Lua scripts. The server runs each of them atomically.
//!
//! They are sent in full, not by their hashes: they are short, and a server that has just taken over doesn't know the hashes.

/// Compare and swap. `pcall`, because a missing right to publish must not stop it half way.
pub(super) const SWAP: &str = r"
local version = redis.call('HGET', KEYS[1], 'version') or '0'
if version ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'data', ARGV[3])
redis.pcall('PUBLISH', ARGV[4], ARGV[2])
return 1";

/// Writes the version again, so that waiting for this write includes all writes before it.
pub(super) const TOUCH: &str = r"
local version = redis.call('HGET', KEYS[1], 'version')
if version then redis.call('HSET', KEYS[1], 'version', version) end
return 1";

/// Returns nothing if the lease was granted or renewed, otherwise for how many milliseconds another holder has it.
pub(super) const LEASE: &str = r"
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return nil end
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return redis.call('PTTL', KEYS[1]) end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return nil";

/// Ends the lease, if this holder has it.
pub(super) const RELEASE: &str =
    r"if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end return 1";

/// [`LEASE`] of the first key. If it was granted, returns the version and the data of the second key. That is read first: where it can't be,
/// nobody has the lease.
pub(super) const LEASE_AND_LOAD: &str = r"
local entry = redis.call('HMGET', KEYS[2], 'version', 'data')
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
  if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {redis.call('PTTL', KEYS[1])} end
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return entry";

/// [`SWAP`] of the first key, if that has the expected data (without a sixth argument: whatever it has), and [`RELEASE`] of the second one.
pub(super) const SWAP_AND_RELEASE: &str = r"
local entry = redis.call('HMGET', KEYS[1], 'version', 'data')
if (entry[1] or '0') ~= ARGV[1] or (ARGV[6] and entry[2] ~= ARGV[6]) then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'data', ARGV[3])
redis.pcall('PUBLISH', ARGV[4], ARGV[2])
if redis.call('GET', KEYS[2]) == ARGV[5] then redis.call('DEL', KEYS[2]) end
return 1";
