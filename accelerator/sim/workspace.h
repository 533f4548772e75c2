#ifndef SD_SIM_WORKSPACE_H_
#define SD_SIM_WORKSPACE_H_

#include "memories.h"
#include "weight_cache.h"

namespace sd {

/*!
 * \brief What runs can share to save time: rebuilt weights and allocated memories.
 *
 * Never changes a result. One run at a time.
 */
struct Workspace {
  WeightCache weights;
  Memories memories;
};

}  // namespace sd

#endif  // SD_SIM_WORKSPACE_H_
