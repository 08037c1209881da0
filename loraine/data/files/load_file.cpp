// Whole files; gzip through zlib, zstd through libzstd. Called through load_file.h.
#include "loraine/data/files/load_file.h"

#include <fmt/format.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cctype>
#include <fstream>
#include <memory>
#include <utility>

#include "loraine/core/error.h"
#include "loraine/core/lower_case.h"
#include "loraine/io/files/mapped_file.h"

namespace loraine {
namespace {

constexpr uint64_t kUnpackedLimit = uint64_t{1} << 32;  // it is held in memory

[[noreturn]] void refuse_size(const std::string& path) {
  throw Error(ErrorKind::bad_data, fmt::format("{}: more than 4 GiB once it is unpacked", path),
              "unpack it: files as they are may be larger");
}

Error damaged_file(const std::string& path, const std::string& what) {
  return Error(ErrorKind::bad_data, fmt::format("{}: {}", path, what), "was it copied whole? Compress it anew");
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
  const auto damaged = [&](const std::string& what) { return damaged_file(path, what); };
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
    if (out.size() > kUnpackedLimit) refuse_size(path);
    ended = code == Z_STREAM_END;
    if (ended && packed.find_first_not_of('\0', at) == packed.npos) break;  // padding, as tapes have it
    if (code == Z_BUF_ERROR || (code == Z_OK && made == 0 && given == z.avail_in)) throw damaged("the gzip data end too early");
    if (code != Z_OK && code != Z_STREAM_END)
      throw damaged(at == 0 || out.empty() ? "not gzip, though its name ends in .gz" : "the gzip data are damaged");
  }
  return out;
}

// All frames of a zstd file, one after another.
std::string unzstd(std::string_view packed, const std::string& path) {
  const std::unique_ptr<ZSTD_DCtx, size_t (*)(ZSTD_DCtx*)> context(ZSTD_createDCtx(), ZSTD_freeDCtx);
  if (!context) throw Error(ErrorKind::internal, "zstd does not start");
  std::string out, block(ZSTD_DStreamOutSize(), '\0');
  ZSTD_inBuffer in{packed.data(), packed.size(), 0};
  size_t left = 1;  // 0: at the end of a frame
  for (bool full = false; in.pos < in.size || full;) {
    ZSTD_outBuffer to{block.data(), block.size(), 0};
    left = ZSTD_decompressStream(context.get(), &to, &in);
    if (ZSTD_isError(left)) throw damaged_file(path, out.empty() ? "not zstd, though its name ends in .zst" : "the zstd data are damaged");
    out.append(block, 0, to.pos);
    if (out.size() > kUnpackedLimit) refuse_size(path);
    full = left != 0 && to.pos == to.size;  // there is more of it to come
  }
  if (left != 0) throw damaged_file(path, "the zstd data end too early");
  return out;
}

enum class Compression : uint8_t { none, gzip, zstd };

// Takes the ending of a compressed file off the name, which is in lower case.
Compression take_compression(std::string& name) {
  const auto take = [&name](std::string_view ending) {
    const bool has = name.ends_with(ending);
    if (has) name.resize(name.size() - ending.size());
    return has;
  };
  return take(".gz") ? Compression::gzip : take(".zst") ? Compression::zstd : Compression::none;
}

}  // namespace

std::optional<FileKind> file_kind(std::string_view path) {
  std::string name = lower_case(path);
  const bool packed = take_compression(name) != Compression::none;
  constexpr std::pair<const char*, FileKind> kinds[] = {
      {".json", FileKind::json}, {".jsonl", FileKind::json},      {".csv", FileKind::csv},    {".tsv", FileKind::tsv},
      {".txt", FileKind::text},  {".parquet", FileKind::parquet}, {".arrow", FileKind::arrow}};
  for (const auto& [ending, kind] : kinds)
    if (name.ends_with(ending) && !(packed && (kind == FileKind::parquet || kind == FileKind::arrow))) return kind;
  return std::nullopt;
}

LoadedFile::LoadedFile(const std::string& path) : mapped_(std::make_unique<MappedFile>(path)) {
  text_ = {reinterpret_cast<const char*>(mapped_->data()), mapped_->size()};
  std::string name = lower_case(path);
  const Compression compression = take_compression(name);
  if (compression == Compression::none) return;
  unpacked_ = compression == Compression::gzip ? gunzip(text_, path) : unzstd(text_, path);
  check_mapped_files();
  text_ = unpacked_;
  mapped_.reset();
}

LoadedFile::~LoadedFile() = default;

void LoadedFile::release_before(const char* place) {
  constexpr size_t kPiece = size_t{16} << 20;
  const auto read = static_cast<size_t>(place - text_.data());
  if (!mapped_ || read < released_ + kPiece) return;
  const size_t whole = (read - released_) / kPiece * kPiece;
  release_pages(text_.data() + released_, whole);
  released_ += whole;
}

void LoadedFile::check() const {
  if (mapped_) check_mapped_files();
}

}  // namespace loraine
