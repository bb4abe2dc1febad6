"""Word lists written for this project: shop, screen and form words, and text where no corpus is given."""

from __future__ import annotations

from typing import Final


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


SHOP_ZH: Final = _words("""
    包邮 限时特惠 买一送一 新品上市 正品保证 全场五折起 满减 立即抢购 热卖 爆款 厂家直销 品质保障
    七天无理由退换 现货速发 天猫 旗舰店 官方正品 送运费险 领券立减 双十一 年中大促 秒杀价 到手价
    原价 现价 会员价 新鲜直达 纯棉 真皮 加厚 防水 大容量 静音 节能 免安装 一键启动 智能家居 四季通用
    柔软亲肤 透气 不掉色 不起球 手工制作 精选好物 健康生活 美味零食 纯天然 无添加 送货上门 全国联保
    售后无忧 质量三包 超长待机 高清画质 专柜同款 男女通用 学生宿舍 办公室 家用 车载 户外 加绒
    修身显瘦 韩版 复古 简约 时尚 潮流 经典 升级版 豪华装 礼盒装 开业大吉 生意兴隆 欢迎光临 出入平安
    小心地滑 请勿吸烟 禁止停车 安全出口 注意安全 收银台 洗手间 停车场 人民医院 中国银行 便民超市
    五金建材 烟酒茶 兰州拉面 重庆火锅 川菜馆 理发店 大药房 文具店 幼儿园 派出所 服装批发 手机维修
    快递代收 房屋出租 旺铺招租 电话预约 营业中 暂停营业 推拉 入口 出口 售票处 候车室 地铁站
""")
SHOP_EN: Final = _words("""
    SALE OPEN CLOSED EXIT ENTRANCE PARKING TAXI CAFE BAR HOTEL BAKERY PHARMACY MARKET STORE WELCOME
    FREE NEW Special Offer Only Today Discount Fresh Coffee Pizza Kitchen House Garden Street Avenue
    Station Terminal Gate Push Pull Caution Danger Warning Notice Private No-Smoking Please Wait
    Here Information Tickets Reception Bank Center Museum Library School Police Fire Hospital Bus
    Stop Speed Limit North South East West Road Bridge Limited Edition Premium Quality Organic
    Natural Original Classic Family Best Price Gift Summer Winter Spring
""")
SCREEN_ZH: Final = _words("""
    文件 编辑 查看 插入 格式 工具 窗口 帮助 保存 取消 确定 应用 设置 返回 下一步 上一步 完成 搜索
    登录 注册 退出 新建 打开 另存为 打印 复制 粘贴 剪切 撤销 重做 全选 删除 重命名 属性 刷新 下载
    上传 分享 收藏 评论 点赞 关注 首页 消息 我的 通知 订单 购物车 优惠券 地址管理 账户安全 隐私政策
    用户协议 版本更新 清除缓存 语言 主题 深色模式 网络连接 蓝牙 电池 显示 声音 存储空间 系统更新
    关于本机 开发者选项 数据统计 用户列表 权限管理 操作日志 待办事项 已完成 进行中 未读 全部 今天
    昨天 本周 名称 大小 类型 修改日期 状态 备注 编号 创建时间 负责人
""")
SCREEN_EN: Final = _words("""
    File Edit View Insert Format Tools Window Help Save Cancel OK Apply Settings Back Next Finish
    Search Sign-in Register Log-out New Open Print Copy Paste Cut Undo Redo Delete Rename Properties
    Refresh Download Upload Share Home Messages Profile Notifications Orders Cart Account Security
    Privacy Language Theme Network Bluetooth Battery Display Sound Storage Update About Dashboard
    Users Roles Logs Name Size Type Modified Status Owner Projects Tasks Calendar Inbox Sent Drafts
    Archive Trash Filter Sort Export Import Preview Details Overview
""")
FORM_ZH: Final = _words("""
    姓名 性别 年龄 出生日期 民族 籍贯 学历 专业 单位 职务 电话 地址 邮编 身份证号 编号 日期 金额
    合计 大写 备注 经办人 审核 签字 盖章 数量 单价 规格 型号 品名 供应商 发票号码 开户行 账号 税号
    项目 说明 结果 参考值 科室 床号 住院号 诊断 检验项目 报告时间 申请人 部门 事由 起止时间 联系人
    收货人 班级 学号 成绩 课程 学分
""")
FORM_EN: Final = _words("""
    Name Date Address Phone Email Company Title Department Signature Total Amount Quantity
    Unit-price Item Description Remarks Invoice-No. Account Tax-ID Subject Reference Approved
    Prepared Checked Start End Order-No. Customer Supplier Weight Brand Size Colour Sample Result
    Method Page Section Comments Status City Country
""")
RECEIPT_ZH: Final = _words("""
    牛奶 面包 鸡蛋 苹果 香蕉 矿泉水 方便面 大米 食用油 酱油 纸巾 洗衣液 牙膏 可乐 咖啡 奶茶 炒饭
    牛肉面 宫保鸡丁 麻婆豆腐 酸辣土豆丝 小笼包 豆浆 油条 啤酒 白菜 西红柿 排骨 酸奶 饼干 薯片 巧克力
""")
RECEIPT_EN: Final = _words("""
    MILK BREAD EGGS APPLE BANANA WATER NOODLES RICE OIL SAUCE TISSUE SOAP COLA COFFEE TEA CHICKEN
    BEEF SALAD SOUP CAKE BEER JUICE PAPER PEN BATTERY CABLE BULB SCREW PAINT BRUSH BOX BAG TAPE GLUE
""")
HEADS: Final = {
    "zh": (
        "小票",
        "收银员",
        "单号",
        "时间",
        "合计",
        "实收",
        "找零",
        "会员卡号",
        "积分",
        "谢谢惠顾",
        "欢迎再次光临",
        "微信支付",
        "件数",
        "应收",
    ),
    "en": (
        "TAX INVOICE",
        "Cashier",
        "Receipt No",
        "Date",
        "TOTAL",
        "CASH",
        "CHANGE",
        "Member",
        "GST 6%",
        "Thank you",
        "Please come again",
        "VISA",
        "Items",
        "Subtotal",
    ),
}
PLAIN_JA: Final = _words("""
    日本語 の は を に 駅 出口 入口 営業中 ありがとう いらっしゃいませ ラーメン 東京 大阪 お知らせ
    ください カード 電話 住所 新聞
""")
PLAIN_KO: Final = _words("""
    한국어 서울 부산 출구 입구 영업중 감사합니다 안녕하세요 커피 식당 전화 주소 신문 학교 병원 은행
    사람 시간 오늘 내일
""")
PLAIN: Final = {
    "zh": SHOP_ZH + SCREEN_ZH + FORM_ZH + RECEIPT_ZH,
    "en": tuple(w.lower() for w in SHOP_EN + SCREEN_EN + FORM_EN + RECEIPT_EN),
    "ja": PLAIN_JA,
    "ko": PLAIN_KO,
}
