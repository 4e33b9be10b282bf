include $(sort $(wildcard $(BR2_EXTERNAL_USHERD_PATH)/package/*/*.mk))
