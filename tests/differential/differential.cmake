# The same random bytes to PostgreSQL and through pgsluice (label protocol). See run in this folder.
file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/*.cpp)
add_executable(differential ${sources})
target_include_directories(differential PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(differential PRIVATE pgsluice_test_support)
if(TARGET pgsluice)
  add_test(NAME differential COMMAND /usr/bin/python3 -B ${CMAKE_CURRENT_LIST_DIR}/run)
  set_tests_properties(differential PROPERTIES LABELS protocol TIMEOUT 900
    ENVIRONMENT "PGSLUICE_BIN=$<TARGET_FILE:pgsluice>;PGSLUICE_DIFFERENTIAL=$<TARGET_FILE:differential>;PGSLUICE_SLOW=${PGSLUICE_SLOW}")
endif()
