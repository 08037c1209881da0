// Our event files, read back record by record: lengths, sums, the fields of each protocol buffer; and the folders of runs that go on.
#include "loraine/train/records/reports/event_file.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <filesystem>
#include <map>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"

namespace loraine::event_file_test {
namespace {

namespace fs = std::filesystem;

std::string fresh_folder(const char* name) {
  const std::string path = testing::TempDir() + "/loraine_events_" + name;
  fs::remove_all(path);
  return path;
}

template <typename T>
T number_at(const std::string& bytes, size_t at) {
  T number;
  if (bytes.size() < at + sizeof number) throw std::runtime_error("the file ends inside a record");
  std::memcpy(&number, bytes.data() + at, sizeof number);
  return number;
}

std::vector<std::string> records_of(const std::string& path) {
  const std::string bytes = read_file(path);
  std::vector<std::string> records;
  for (size_t at = 0; at < bytes.size();) {
    const uint64_t length = number_at<uint64_t>(bytes, at);
    EXPECT_EQ(masked_crc32c(bytes.substr(at, 8)), number_at<uint32_t>(bytes, at + 8));
    records.push_back(bytes.substr(at + 12, length));
    EXPECT_EQ(records.back().size(), length);
    EXPECT_EQ(masked_crc32c(records.back()), number_at<uint32_t>(bytes, at + 12 + length));
    at += 16 + length;
  }
  return records;
}

// Fields of a protocol buffer: number → values, those of fixed size and varints as their 8 bytes.
std::multimap<int, std::string> fields_of(const std::string& bytes) {
  std::multimap<int, std::string> fields;
  size_t at = 0;
  const auto varint = [&] {
    uint64_t number = 0;
    for (int shift = 0;; shift += 7) {
      const unsigned char byte = static_cast<unsigned char>(bytes.at(at++));
      number |= static_cast<uint64_t>(byte & 127) << shift;
      if (byte < 128) return number;
    }
  };
  const auto as_text = [](uint64_t number) { return std::string(reinterpret_cast<const char*>(&number), sizeof number); };
  while (at < bytes.size()) {
    const uint64_t key = varint();
    const size_t size = (key & 7) == 0 ? 0 : (key & 7) == 1 ? 8 : (key & 7) == 5 ? 4 : static_cast<size_t>(varint());
    const std::string value = (key & 7) == 0 ? as_text(varint()) : bytes.substr(at, size);
    EXPECT_TRUE((key & 7) == 0 || value.size() == size);
    at += size;
    fields.emplace(static_cast<int>(key >> 3), value);
  }
  return fields;
}

std::string field(const std::string& message, std::initializer_list<int> path) {
  std::string at = message;
  for (const int number : path) {
    const auto fields = fields_of(at);
    const auto found = fields.find(number);
    if (found == fields.end()) return "(no field)";
    at = found->second;
  }
  return at;
}

int64_t whole(const std::string& bytes) { return number_at<int64_t>(bytes, 0); }

TEST(EventFile, SumsAreCastagnolis) {
  // The value of RFC 3720 (iSCSI), B.4, for 32 zero bytes, masked; and a record as tensorflow writes it.
  EXPECT_EQ(masked_crc32c(std::string(32, '\0')), ((0x8a9136aau >> 15) | (0x8a9136aau << 17)) + 0xa282ead8u);
  EXPECT_EQ(masked_crc32c("123456789"), ((0xe3069283u >> 15) | (0xe3069283u << 17)) + 0xa282ead8u);
  EXPECT_EQ(event_record("ab").size(), 18u);
  EXPECT_NE(masked_crc32c("ab"), masked_crc32c("ac"));
}

TEST(EventFile, ReadsBack) {
  const std::string folder = fresh_folder("values");
  EventFile file(folder + "/runs/one");
  EXPECT_TRUE(fs::path(file.path()).filename().string().starts_with("events.out.tfevents."));
  file.text("args", "{\"seed\": 42}");
  file.purge_from(7);
  file.scalars(300, {{"train/loss", 1.25}, {"train/epoch", 0.5}});
  file.scalars(301, {});
  file.close();
  const std::vector<std::string> events = records_of(file.path());
  ASSERT_EQ(events.size(), 4u);  // no event without a value
  EXPECT_EQ(field(events[0], {3}), "brain.Event:2");
  const double time = number_at<double>(field(events[0], {1}), 0);
  EXPECT_GT(time, 1.5e9);
  EXPECT_EQ(field(events[1], {5, 1, 1}), "args/text_summary");
  EXPECT_EQ(whole(field(events[1], {5, 1, 8, 1})), 7);        // a tensor of texts
  EXPECT_EQ(whole(field(events[1], {5, 1, 8, 2, 2, 1})), 1);  // of shape [1]
  EXPECT_EQ(field(events[1], {5, 1, 8, 8}), "{\"seed\": 42}");
  EXPECT_EQ(field(events[1], {5, 1, 9, 1, 1}), "text");
  EXPECT_EQ(whole(field(events[2], {7, 1})), 1);  // SessionLog START
  EXPECT_EQ(whole(field(events[2], {2})), 7);
  EXPECT_EQ(whole(field(events[3], {2})), 300);
  const auto values = fields_of(field(events[3], {5}));
  ASSERT_EQ(values.count(1), 2u);
  auto value = values.find(1);
  EXPECT_EQ(field(value->second, {1}), "train/loss");
  EXPECT_EQ(number_at<float>(field(value->second, {2}), 0), 1.25f);
  ++value;
  EXPECT_EQ(field(value->second, {1}), "train/epoch");
  EXPECT_EQ(number_at<float>(field(value->second, {2}), 0), 0.5f);
}

TEST(EventFile, EachFileHasAName) {
  const std::string folder = fresh_folder("names");
  EventFile first(folder), second(folder);
  EXPECT_NE(first.path(), second.path());
}

TEST(EventFile, AFolderThatCannotBeMadeIsAnError) {
  const std::string folder = fresh_folder("blocked");
  make_folders(folder);
  write_file(folder + "/file", "");
  EXPECT_THROW(EventFile file(folder + "/file/runs"), Error);
}

TEST(EventFile, TheNewestFolderIsFound) {
  const std::string runs = fresh_folder("runs");
  EXPECT_EQ(newest_event_folder(runs), "");
  for (const auto& [name, seconds] : {std::pair{"b", "0000000200"}, {"a", "0000000300"}, {"c", "0000000100"}}) {
    make_folders(runs + "/" + name);
    write_file(runs + "/" + name + "/events.out.tfevents." + seconds + ".host.1.0", "");
  }
  make_folders(runs + "/empty");
  write_file(runs + "/stray", "");
  EXPECT_EQ(newest_event_folder(runs), runs + "/a");
}

}  // namespace
}  // namespace loraine::event_file_test
