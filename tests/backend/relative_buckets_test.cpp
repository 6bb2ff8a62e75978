#include "deltatune/backend/relative_buckets.hpp"

#include <catch2/catch.hpp>
#include <utility>
#include <vector>

using namespace deltatune;

namespace {

// The distances from -300 to 300 at which the bucket changes, and to which; the same in transformers' T5 and MPNet.
using Changes = std::vector<std::pair<Index, Index>>;

Changes changes(const RelativeBuckets& relative) {
  Changes found;
  for (Index distance = -300; distance <= 300; ++distance)
    if (found.empty() || relative.bucket(distance) != found.back().second) found.emplace_back(distance, relative.bucket(distance));
  return found;
}

}  // namespace

TEST_CASE("relative buckets: those of transformers", "[backend]") {
  CHECK(changes({.buckets = 32, .max_distance = 128, .bidirectional = true}) ==
        Changes{{-300, 15}, {-90, 14}, {-63, 13}, {-45, 12}, {-31, 11}, {-22, 10}, {-15, 9}, {-11, 8}, {-7, 7}, {-6, 6}, {-5, 5},
                {-4, 4},    {-3, 3},   {-2, 2},   {-1, 1},   {0, 0},    {1, 17},   {2, 18},  {3, 19},  {4, 20}, {5, 21}, {6, 22},
                {7, 23},    {8, 24},   {12, 25},  {16, 26},  {23, 27},  {32, 28},  {46, 29}, {64, 30}, {91, 31}});
  CHECK(changes({.buckets = 32, .max_distance = 128, .bidirectional = false}) ==
        Changes{{-300, 31}, {-112, 30}, {-98, 29}, {-86, 28}, {-76, 27}, {-66, 26}, {-58, 25}, {-51, 24}, {-45, 23}, {-39, 22}, {-34, 21},
                {-30, 20},  {-26, 19},  {-23, 18}, {-20, 17}, {-18, 16}, {-15, 15}, {-14, 14}, {-13, 13}, {-12, 12}, {-11, 11}, {-10, 10},
                {-9, 9},    {-8, 8},    {-7, 7},   {-6, 6},   {-5, 5},   {-4, 4},   {-3, 3},   {-2, 2},   {-1, 1},   {0, 0}});
}

TEST_CASE("relative buckets: the distances of a bucket", "[backend]") {
  for (const RelativeBuckets relative : {RelativeBuckets{32}, RelativeBuckets{32, 128, false}, RelativeBuckets{8, 3}, RelativeBuckets{5, 20, false},
                                         RelativeBuckets{64, 20}, RelativeBuckets{40, 100}}) {
    std::vector<IndexRange> distances;
    for (Index bucket = 0; bucket < relative.buckets; ++bucket) distances.push_back(relative.distances(bucket));
    Index wrong = 0;
    for (Index distance = -300; distance <= 300; ++distance)
      for (Index bucket = 0; bucket < relative.buckets; ++bucket) {
        const IndexRange range = distances[static_cast<std::size_t>(bucket)];
        if ((range.begin <= distance && distance < range.end) != (relative.bucket(distance) == bucket)) ++wrong;
      }
    INFO(relative.buckets << " buckets up to " << relative.max_distance);
    CHECK(wrong == 0);
  }
}
