// Whole files, and gzip through zlib. Called through load_file.h.
#include "loraine/data/files/load_file.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <cctype>
#include <fstream>
#include <utility>

#include "loraine/core/error.h"

namespace loraine {
namespace {

constexpr uint64_t kFileLimit = 0xffffffffull - 4096;  // the JSON parser's own

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

[[noreturn]] void refuse_size(const std::string& path, const std::string& size) {
  throw Error(ErrorKind::bad_data, fmt::format("{}: {} bytes, at most 4 GiB per file are read", path, size),
              "split it and put the parts in a folder");
}

simdjson::padded_string read_whole(const std::string& path) {
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  const auto size = in ? static_cast<int64_t>(in.tellg()) : int64_t{-1};
  if (size < 0) throw Error(ErrorKind::io, fmt::format("{}: cannot be read", path));
  if (static_cast<uint64_t>(size) > kFileLimit) refuse_size(path, std::to_string(size));
  simdjson::padded_string bytes(static_cast<size_t>(size));
  in.seekg(0);
  if (size > 0 && !in.read(bytes.data(), size)) throw Error(ErrorKind::io, fmt::format("{}: cannot be read", path));
  return bytes;
}

struct Inflater {
  z_stream stream{};
  Inflater() {
    if (inflateInit2(&stream, 15 + 16) != Z_OK) throw Error(ErrorKind::internal, "zlib does not start");  // 16: gzip's header
  }
  ~Inflater() { inflateEnd(&stream); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
};

// All members of a gzip file, one after another.
std::string gunzip(std::string_view packed, const std::string& path) {
  const auto damaged = [&](const std::string& what) {
    return Error(ErrorKind::bad_data, fmt::format("{}: {}", path, what), "was it copied whole? Compress it anew");
  };
  std::string out;
  Inflater inflater;
  z_stream& z = inflater.stream;
  size_t at = 0;
  bool ended = false;
  std::string block(1 << 18, '\0');
  while (at < packed.size() || !ended) {
    if (ended && inflateReset(&z) != Z_OK) throw damaged("zlib does not go on");
    ended = false;
    z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data() + at));
    z.avail_in = static_cast<uInt>(std::min<size_t>(packed.size() - at, 1u << 30));
    const uInt given = z.avail_in;
    z.next_out = reinterpret_cast<Bytef*>(block.data());
    z.avail_out = static_cast<uInt>(block.size());
    const int code = inflate(&z, Z_NO_FLUSH);
    at += given - z.avail_in;
    const size_t made = block.size() - z.avail_out;
    out.append(block, 0, made);
    if (out.size() > kFileLimit) refuse_size(path, "more than 4 G");
    ended = code == Z_STREAM_END;
    if (ended && packed.find_first_not_of('\0', at) == packed.npos) break;  // padding, as tapes have it
    if (code == Z_BUF_ERROR || (code == Z_OK && made == 0 && given == z.avail_in)) throw damaged("the gzip data end too early");
    if (code != Z_OK && code != Z_STREAM_END)
      throw damaged(at == 0 || out.empty() ? "not gzip, though its name ends in .gz" : "the gzip data are damaged");
  }
  return out;
}

}  // namespace

std::optional<FileKind> file_kind(std::string_view path) {
  std::string name = lower(path);
  if (name.ends_with(".gz")) name.resize(name.size() - 3);
  constexpr std::pair<const char*, FileKind> kinds[] = {{".json", FileKind::json}, {".jsonl", FileKind::json},
                                                        {".csv", FileKind::csv},   {".tsv", FileKind::tsv},
                                                        {".txt", FileKind::text},  {".parquet", FileKind::parquet}};
  for (const auto& [ending, kind] : kinds)
    if (name.ends_with(ending)) return kind;
  return std::nullopt;
}

simdjson::padded_string load_file(const std::string& path) {
  simdjson::padded_string bytes = read_whole(path);
  if (!lower(path).ends_with(".gz")) return bytes;
  return simdjson::padded_string(gunzip({bytes.data(), bytes.size()}, path));
}

}  // namespace loraine
