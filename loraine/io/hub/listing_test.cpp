// Listings of hubs, as they are and as they must not be.
#include "loraine/io/hub/listing.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "loraine/core/error.h"

namespace loraine::listing_test {
namespace {

using nlohmann::json;

const std::string kSha1(40, 'a'), kSha256(64, 'b');

std::string refusal(const json& listing) {
  try {
    parse_listing(listing, "the listing");
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, ErrorKind::bad_data);
    return error.what();
  }
  return "taken";
}

json with_file(json file) { return {{"sha", kSha1}, {"siblings", {std::move(file)}}}; }

TEST(HubListing, SmallAndLargeFiles) {
  const Listing listing = parse_listing({{"sha", kSha1},
                                         {"siblings",
                                          {{{"rfilename", "config.json"}, {"size", 12}, {"blobId", kSha1}},
                                           {{"rfilename", "a/b.bin"},
                                            {"size", 134},
                                            {"blobId", kSha1},
                                            {"lfs", {{"sha256", kSha256}, {"size", 5000000000}, {"pointerSize", 134}}}},
                                           {{"rfilename", "name alone"}}}}},
                                        "the listing");
  EXPECT_EQ(listing.commit, kSha1);
  ASSERT_EQ(listing.files.size(), 3u);
  EXPECT_EQ(listing.find("config.json")->hash(), kSha1);
  EXPECT_EQ(*listing.find("config.json")->size, 12u);
  EXPECT_EQ(listing.find("a/b.bin")->hash(), kSha256);
  EXPECT_EQ(*listing.find("a/b.bin")->size, 5000000000u);
  EXPECT_FALSE(listing.find("name alone")->size);
  EXPECT_EQ(listing.find("none"), nullptr);
}

TEST(HubListing, WhatMustNotBe) {
  EXPECT_EQ(refusal(with_file({{"rfilename", "a"}})), "taken");
  for (const char* path : {"", "/a", "../a", "a/../b", "a//b", "a/", ".", "a\\b", "a\nb"})
    EXPECT_NE(refusal(with_file({{"rfilename", path}})), "taken") << path;
  EXPECT_NE(refusal(with_file({{"rfilename", std::string(2000, 'a')}})), "taken");
  EXPECT_NE(refusal(with_file({{"rfilename", "a"}, {"size", -1}})), "taken");
  EXPECT_NE(refusal(with_file({{"rfilename", "a"}, {"size", 1.5}})), "taken");
  EXPECT_NE(refusal(with_file({{"rfilename", "a"}, {"blobId", "../../x"}})), "taken");
  EXPECT_NE(refusal(with_file({{"rfilename", "a"}, {"lfs", {{"sha256", kSha1}}}})), "taken");
  EXPECT_NE(refusal(with_file(3)), "taken");
  for (const json& listing : {json(), json::array(), json{{"sha", kSha1}}, json{{"sha", "../x"}, {"siblings", json::array()}},
                              json{{"sha", 3}, {"siblings", json::array()}}, json{{"sha", kSha1}, {"siblings", json::object()}}})
    EXPECT_NE(refusal(listing), "taken") << listing;
}

TEST(HubListing, ModelScope) {
  const json file = {{"Type", "blob"}, {"Path", "a/b"}, {"Size", 3}, {"Sha256", kSha256}};
  const json folder = {{"Type", "tree"}, {"Path", "a"}};
  size_t entries = 0;
  for (const json& answer : {json{{"Data", {{"Files", {folder, file}}}}}, json{{"Data", {folder, file}}}}) {
    const Listing listing = parse_modelscope_listing(answer, "master", "the listing", entries);
    EXPECT_EQ(entries, 2u);
    ASSERT_EQ(listing.files.size(), 1u);
    EXPECT_EQ(listing.files[0].path, "a/b");
    EXPECT_EQ(listing.files[0].hash(), kSha256);
    EXPECT_EQ(listing.commit, "master");
  }
  EXPECT_THROW(parse_modelscope_listing(json{{"Data", nullptr}}, "master", "the listing", entries), Error);
  EXPECT_THROW(parse_modelscope_listing(json{{"Data", {{{"Type", "blob"}, {"Path", "../a"}}}}}, "master", "the listing", entries), Error);
}

TEST(HubAddresses, Parts) {
  EXPECT_EQ(url_path("a b/c?d#e/%.bin"), "a%20b/c%3Fd%23e/%25.bin");
  EXPECT_EQ(url_part("pr/1"), "pr%2F1");
  EXPECT_EQ(url_host("https://user.example:8080/x?y"), "user.example:8080");
  EXPECT_EQ(url_host("no address"), "a hub");
}

// Who is given a token.
TEST(HubAddresses, Origins) {
  EXPECT_TRUE(same_origin("https://huggingface.co/a", "https://HuggingFace.co"));
  EXPECT_TRUE(same_origin("https://huggingface.co:443/a", "https://huggingface.co"));
  for (const char* other : {"http://huggingface.co/a", "https://huggingface.co:444/a", "https://huggingface.co.evil.example/a",
                            "https://evil.example/huggingface.co", "https://huggingface.co@evil.example/", "https://cdn.huggingface.co/a",
                            "//huggingface.co/a", ""})
    EXPECT_FALSE(same_origin(other, "https://huggingface.co")) << other;
}

}  // namespace
}  // namespace loraine::listing_test
