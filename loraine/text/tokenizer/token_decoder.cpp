// See token_decoder.h.
#include "loraine/text/tokenizer/token_decoder.h"

#include "loraine/text/tokenizer/normalizer.h"
#include "loraine/text/tokenizer/unicode.h"

namespace loraine::tokens {

TokenDecoder parse_decoder(const Json& value, const Place& place) {
  TokenDecoder out;
  if (value.is_null()) return out;
  JsonObject object = as_object(value, place);
  std::string type = get_string(object, "type", place);
  using Kind = TokenDecoder::Kind;
  if (type == "Sequence") {
    check_keys(object, {"type", "decoders"}, place);
    out.kind = Kind::sequence;
    for (auto step : get_array(object, "decoders", place)) out.steps.push_back(parse_decoder(step, place.in("decoders")));
  } else if (type == "ByteLevel") {
    check_keys(object, {"type", "add_prefix_space", "trim_offsets", "use_regex"}, place);
    out.kind = Kind::byte_level;
  } else if (type == "ByteFallback" || type == "Fuse") {
    check_keys(object, {"type"}, place);
    out.kind = type == "Fuse" ? Kind::fuse : Kind::byte_fallback;
  } else if (type == "Strip") {
    check_keys(object, {"type", "content", "start", "stop"}, place);
    out.kind = Kind::strip;
    out.content = get_string(object, "content", place);
    out.start = get_int(object, "start", 0, 1'000'000, place);
    out.stop = get_int(object, "stop", 0, 1'000'000, place);
    if (out.content.empty() || out.content.size() != char_bytes(static_cast<unsigned char>(out.content[0])))
      fail(place, "\"content\" is not one character");
  } else if (type == "Replace") {
    check_keys(object, {"type", "pattern", "content"}, place);
    out.kind = Kind::replace;
    out.pattern = TextPattern::from_json(get(object, "pattern", place), place.in("pattern"));
    out.content = get_string(object, "content", place);
  } else if (type == "Metaspace") {
    check_keys(object, {"type", "replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep"}, place);
    out.kind = Kind::metaspace;
    out.content = get_string_or(object, "replacement", "\xE2\x96\x81", place);
    if (out.content.empty()) fail(place, "\"replacement\" is not one character");
    out.drop_first =
        get_string_or(object, "prepend_scheme", "always", place) != "never" && get_bool_or(object, "add_prefix_space", true, place);
  } else if (type == "BPEDecoder") {
    check_keys(object, {"type", "suffix"}, place);
    out.kind = Kind::suffix;
    out.pattern = TextPattern::literal(get_string_or(object, "suffix", "</w>", place));
  } else {
    fail_unknown(place, "decoder", type);
  }
  return out;
}

namespace {

void append_byte_level(std::string& bytes, const std::string& token) {
  const size_t before = bytes.size();
  for (size_t at = 0; at < token.size();) {
    int byte = printable_to_byte(next_char(token, at));
    if (byte < 0) {  // such as an added token: the whole token is text
      bytes.resize(before);
      bytes += token;
      return;
    }
    bytes.push_back(static_cast<char>(byte));
  }
}

std::string from_byte_level(const std::vector<std::string>& tokens) {
  std::string bytes;
  for (const std::string& token : tokens) append_byte_level(bytes, token);
  return valid_utf8(bytes) ? bytes : repair_utf8(bytes);
}

int byte_of(const std::string& token) {  // "<0x0A>" → 10, else -1
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  int value = 0;
  for (int i = 3; i < 5; ++i) {
    char c = token[static_cast<size_t>(i)];
    int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

std::vector<std::string> from_byte_fallback(std::vector<std::string> tokens) {
  std::vector<std::string> out;
  std::string run;
  auto flush = [&] {
    if (run.empty()) return;
    if (valid_utf8(run)) out.push_back(run);
    else
      for (size_t i = 0; i < run.size(); ++i) out.emplace_back(kReplacement);
    run.clear();
  };
  for (std::string& token : tokens) {
    if (int byte = byte_of(token); byte >= 0) {
      run.push_back(static_cast<char>(byte));
    } else {
      flush();
      out.push_back(std::move(token));
    }
  }
  flush();
  return out;
}

std::string strip(const TokenDecoder& d, const std::string& token) {
  size_t begin = 0, end = token.size(), width = d.content.size();
  for (int64_t i = 0; i < d.start && token.compare(begin, width, d.content) == 0 && begin < token.size(); ++i) begin += width;
  for (int64_t i = 0; i < d.stop && end >= begin + width && token.compare(end - width, width, d.content) == 0; ++i) end -= width;
  return token.substr(begin, end - begin);
}

std::vector<std::string> decode_chain(const TokenDecoder& d, std::vector<std::string> tokens) {
  switch (d.kind) {
    case TokenDecoder::Kind::none: break;
    case TokenDecoder::Kind::sequence:
      for (const TokenDecoder& step : d.steps) tokens = decode_chain(step, std::move(tokens));
      break;
    case TokenDecoder::Kind::byte_level: return {from_byte_level(tokens)};
    case TokenDecoder::Kind::byte_fallback: return from_byte_fallback(std::move(tokens));
    case TokenDecoder::Kind::fuse: {
      std::string all;
      for (const std::string& token : tokens) all += token;
      return {all};
    }
    case TokenDecoder::Kind::strip:
      for (std::string& token : tokens) token = strip(d, token);
      break;
    case TokenDecoder::Kind::replace:
      for (std::string& token : tokens) token = replace_all(d.pattern, d.content, token);
      break;
    case TokenDecoder::Kind::metaspace:
      for (size_t i = 0; i < tokens.size(); ++i)
        tokens[i] = replace_all(TextPattern::literal(d.content), i == 0 && d.drop_first ? "" : " ", tokens[i]);
      break;
    case TokenDecoder::Kind::suffix:
      for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = replace_all(d.pattern, i + 1 == tokens.size() ? "" : " ", tokens[i]);
      break;
  }
  return tokens;
}

// The bytes so far; a step behind `fuse` sees the whole text, not tokens, and is passed over.
std::string between_others(const TokenDecoder& d, std::string token, bool& fused) {
  switch (d.kind) {
    case TokenDecoder::Kind::sequence:
      for (const TokenDecoder& step : d.steps) token = between_others(step, std::move(token), fused);
      return token;
    case TokenDecoder::Kind::fuse: fused = true; return token;
    case TokenDecoder::Kind::byte_level: {
      std::string bytes;
      append_byte_level(bytes, token);
      return bytes;
    }
    case TokenDecoder::Kind::byte_fallback: {
      const int byte = byte_of(token);
      return byte < 0 ? token : std::string(1, static_cast<char>(byte));
    }
    case TokenDecoder::Kind::strip: return fused ? token : strip(d, token);
    case TokenDecoder::Kind::replace: return valid_utf8(token) ? replace_all(d.pattern, d.content, token) : token;
    case TokenDecoder::Kind::metaspace: return replace_all(TextPattern::literal(d.content), " ", token);
    case TokenDecoder::Kind::suffix: return replace_all(d.pattern, " ", token);
    case TokenDecoder::Kind::none: return token;
  }
  return token;
}

}  // namespace

std::string bytes_of_token(const TokenDecoder& decoder, const std::string& token) {
  if (decoder.kind == TokenDecoder::Kind::none) return " " + token;  // they are joined with spaces
  bool fused = false;
  return between_others(decoder, token, fused);
}

bool drops_first_space(const TokenDecoder& decoder) {
  using Kind = TokenDecoder::Kind;
  if (decoder.kind == Kind::metaspace) return decoder.drop_first;
  if (decoder.kind == Kind::none) return true;
  bool fused = false;
  for (const TokenDecoder& step : decoder.steps) {
    fused |= step.kind == Kind::fuse;
    if (step.kind == Kind::metaspace && step.drop_first) return true;
    if (fused && step.kind == Kind::strip && step.content == " " && step.start > 0) return true;
  }
  return false;
}

std::string decode_tokens(const TokenDecoder& decoder, std::vector<std::string> tokens) {
  bool join_with_spaces = decoder.kind == TokenDecoder::Kind::none;  // what the library does without a decoder
  tokens = decode_chain(decoder, std::move(tokens));
  std::string text;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (i > 0 && join_with_spaces) text += ' ';
    text += tokens[i];
  }
  return text;
}

}  // namespace loraine::tokens
